"""A random file in the layout of latent-diffusion's UNet, written down from its key lists and not from our key map."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from tests.helpers import randn
from tests.interop.layouts import random_layers

Shapes = dict[str, tuple[int, ...]]


def original_unet(
    base: int, multipliers: Sequence[int], blocks: int, attention: Sequence[int], channels: int, context: int, scale_shift: bool
) -> dict[str, Tensor]:
    """As published behind its prefix, with a class table of 5 + 1 tokens and an autoencoder's tensor beside it."""
    names: Shapes = {
        "time_embed.0": (4 * base, base),
        "time_embed.2": (4 * base, 4 * base),
        "input_blocks.0.0": (base, channels, 3, 3),
        "out.0": (base * multipliers[0],),
        "out.2": (channels, base * multipliers[0], 3, 3),
    }
    plain: Shapes = {}
    width, place, skips = base, 0, [base]
    for level, multiplier in enumerate(multipliers):
        for _ in range(blocks):
            place += 1
            names |= _residual(f"input_blocks.{place}.0", width, base * multiplier, base, scale_shift)
            width = base * multiplier
            if 2**level in attention:
                _attend(names, plain, f"input_blocks.{place}.1", width, context)
            skips.append(width)
        if level < len(multipliers) - 1:
            place += 1
            names[f"input_blocks.{place}.0.op"] = (width, width, 3, 3)
            skips.append(width)
    for i in (0, 2):
        names |= _residual(f"middle_block.{i}", width, width, base, scale_shift)
    _attend(names, plain, "middle_block.1", width, context)
    place = 0
    for level, multiplier in reversed(list(enumerate(multipliers))):
        for j in range(blocks + 1):
            names |= _residual(f"output_blocks.{place}.0", width + skips.pop(), base * multiplier, base, scale_shift)
            width = base * multiplier
            if 2**level in attention:
                _attend(names, plain, f"output_blocks.{place}.1", width, context)
            if level and j == blocks:
                names[f"output_blocks.{place}.{2 if 2**level in attention else 1}.conv"] = (width, width, 3, 3)
            place += 1
    state = random_layers(names, scale=0.1)
    state |= {f"{name}.weight": randn(*shape, seed=number) * 0.2 for number, (name, shape) in enumerate(plain.items())}
    beside = {"cond_stage_model.embedding.weight": randn(6, context, seed=3), "first_stage_model.quant_conv.bias": randn(3)}
    return {f"model.diffusion_model.{name}": tensor for name, tensor in state.items()} | beside


def _residual(name: str, inputs: int, outputs: int, base: int, scale_shift: bool) -> Shapes:
    shapes: Shapes = {
        f"{name}.in_layers.0": (inputs,),
        f"{name}.in_layers.2": (outputs, inputs, 3, 3),
        f"{name}.emb_layers.1": (outputs * (1 + scale_shift), 4 * base),
        f"{name}.out_layers.0": (outputs,),
        f"{name}.out_layers.3": (outputs, outputs, 3, 3),
    }
    return shapes if inputs == outputs else shapes | {f"{name}.skip_connection": (outputs, inputs, 1, 1)}


def _attend(names: Shapes, plain: Shapes, name: str, width: int, context: int) -> None:
    """Layers with a bias go to `names`, those without one to `plain`."""
    block = f"{name}.transformer_blocks.0"
    names |= {f"{name}.norm": (width,), f"{name}.proj_in": (width, width, 1, 1), f"{name}.proj_out": (width, width, 1, 1)}
    names |= {f"{block}.norm{i}": (width,) for i in (1, 2, 3)}
    names |= {f"{block}.attn{i}.to_out.0": (width, width) for i in (1, 2)}
    names |= {f"{block}.ff.net.0.proj": (8 * width, width), f"{block}.ff.net.2": (width, 4 * width)}
    plain |= {f"{block}.attn1.to_{part}": (width, width) for part in "qkv"}
    plain |= {f"{block}.attn2.to_{part}": (width, width if part == "q" else context) for part in "qkv"}


def averages_of(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Averaged copies of the network's tensors, each twice the tensor, named as latent-diffusion names them."""
    network = {name: tensor for name, tensor in state.items() if name.startswith("model.")}
    return {f"model_ema.{name.removeprefix('model.').replace('.', '')}": 2 * tensor for name, tensor in network.items()}
