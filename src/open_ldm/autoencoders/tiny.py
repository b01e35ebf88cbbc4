"""Tiny autoencoders (TAESD and similar) in diffusers' format, by hub name or local folder."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from open_ldm.autoencoders.base import Posterior
from open_ldm.autoencoders.pretrained import Pretrained, PretrainedConfig, load


class TinyConfig(PretrainedConfig):
    """An AutoencoderTiny, such as madebyollin/taesd.

    Its latents are those of the autoencoder that it imitates, already scaled (TAESD: Stable Diffusion's times 0.18215).
    Measure latent_stats or give them with scale 1; the scale of the large autoencoder would be applied twice.
    """

    kind: Literal["tiny"] = "tiny"
    trained_on: ClassVar[str] = "the mean, which is all that the encoder gives"


class TinyAutoencoder(Pretrained):
    """diffusers' AutoencoderTiny. Its encoder is exact: a posterior without deviation.

    The network itself works on pictures in [0, 1] and limits latents to 3 tanh(raw / 3) before decoding; diffusers' modules
    do both. `latent_magnitude` and `latent_shift` in its config.json concern storage as bytes; latents stay floats here.
    """

    def __init__(self, config: TinyConfig, device: torch.device) -> None:
        network = load("AutoencoderTiny", config)
        super().__init__(network, config, len(network.config.encoder_block_out_channels), device)

    def encode(self, images: Tensor) -> Posterior:
        """Encode images as latents, exactly."""
        return Posterior(self.encoded(images, lambda portion: self.network.encode(portion).latents))
