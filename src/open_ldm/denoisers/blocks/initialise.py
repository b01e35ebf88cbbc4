"""Initial weights of the transformer denoisers: DiT's initialisation, used for mmDiT too, for which none was published."""

from __future__ import annotations

from torch import nn

from open_ldm.denoisers.blocks.embeddings import TimeEmbedding
from open_ldm.denoisers.blocks.linear import Linear
from open_ldm.denoisers.blocks.modulation import FinalLayer, Modulation


def initialise(denoiser: nn.Module) -> None:
    """Initialise a network as DiT: Xavier linears with zero bias, N(0, 0.02) time MLP, zero modulations, a zero final layer.

    Every block then starts as the identity, and an untrained network predicts exactly zero (Peebles & Xie 2023, section 3.2,
    adaLN-zero).

    Args:
        denoiser: The network, which is changed. Random numbers come from torch's default generator.
    """
    for part in denoiser.modules():
        if isinstance(part, Linear):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    for part in denoiser.modules():
        match part:
            case TimeEmbedding():
                for layer in part.mlp:
                    if isinstance(layer, Linear):
                        nn.init.normal_(layer.weight, std=0.02)
            case Modulation() | FinalLayer():
                nn.init.zeros_(part.linear.weight)
