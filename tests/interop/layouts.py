"""Random files in published layouts, written down from their key lists and not from our key maps."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.helpers import randn


def random_layers(shapes: dict[str, tuple[int, ...]], scale: float = 0.2) -> dict[str, Tensor]:
    """Weight and bias of each layer by its weight's shape, all numbers random."""
    state = {}
    for number, (name, shape) in enumerate(shapes.items()):
        state[f"{name}.weight"] = randn(*shape, seed=number) * scale
        state[f"{name}.bias"] = randn(shape[0], seed=1000 + number) * scale
    return state


def original_dit(depth: int, width: int, channels: int, patch: int, classes: int) -> dict[str, Tensor]:
    """A file in the layout of DiT-XL-2-256x256.pt without its position table, the variance learned."""
    shapes: dict[str, tuple[int, ...]] = {
        "x_embedder.proj": (width, channels, patch, patch),
        "t_embedder.mlp.0": (width, 256),
        "t_embedder.mlp.2": (width, width),
        "final_layer.linear": (patch * patch * 2 * channels, width),
        "final_layer.adaLN_modulation.1": (2 * width, width),
    }
    for i in range(depth):
        shapes |= {
            f"blocks.{i}.attn.qkv": (3 * width, width),
            f"blocks.{i}.attn.proj": (width, width),
            f"blocks.{i}.mlp.fc1": (4 * width, width),
            f"blocks.{i}.mlp.fc2": (width, 4 * width),
            f"blocks.{i}.adaLN_modulation.1": (6 * width, width),
        }
    return random_layers(shapes) | {"y_embedder.embedding_table.weight": randn(classes + 1, width, seed=5)}


def original_sd3(depth: int, width: int, channels: int, context: int, pooled: int, side: int, rms: bool) -> dict[str, Tensor]:
    """A file in the layout of sd3_medium.safetensors, behind its prefix; the position table random too."""
    shapes: dict[str, tuple[int, ...]] = {
        "x_embedder.proj": (width, channels, 2, 2),
        "t_embedder.mlp.0": (width, 256),
        "t_embedder.mlp.2": (width, width),
        "y_embedder.mlp.0": (width, pooled),
        "y_embedder.mlp.2": (width, width),
        "context_embedder": (width, context),
        "final_layer.linear": (4 * channels, width),
        "final_layer.adaLN_modulation.1": (2 * width, width),
    }
    norms = {}
    for i in range(depth):
        for stream in ("x_block", "context_block"):
            block, last = f"joint_blocks.{i}.{stream}", stream == "context_block" and i == depth - 1
            shapes[f"{block}.attn.qkv"] = (3 * width, width)
            shapes[f"{block}.adaLN_modulation.1"] = ((2 if last else 6) * width, width)
            if not last:
                shapes |= {f"{block}.attn.proj": (width, width)}
                shapes |= {f"{block}.mlp.fc1": (4 * width, width), f"{block}.mlp.fc2": (width, 4 * width)}
            if rms:
                norms |= {f"{block}.attn.ln_{name}.weight": randn(64, seed=i) for name in "qk"}
    state = random_layers(shapes) | norms | {"pos_embed": randn(1, side * side, width, seed=77)}
    return {f"model.diffusion_model.{name}": tensor for name, tensor in state.items()}


def original_pixart(depth: int, width: int, caption: int, length: int, multi_scale: bool) -> dict[str, Tensor]:
    """A file in the layout of PixArt-XL-2-512x512.pth or -1024-MS.pth without its position table, the variance learned."""
    shapes: dict[str, tuple[int, ...]] = {
        "x_embedder.proj": (width, 4, 2, 2),
        "t_embedder.mlp.0": (width, 256),
        "t_embedder.mlp.2": (width, width),
        "t_block.1": (6 * width, width),
        "y_embedder.y_proj.fc1": (width, caption),
        "y_embedder.y_proj.fc2": (width, width),
        "final_layer.linear": (4 * 8, width),
    }
    tables = {
        "final_layer.scale_shift_table": randn(2, width, seed=70),
        "y_embedder.y_embedding": randn(length, caption, seed=71),
    }
    for i in range(depth):
        shapes |= {
            f"blocks.{i}.attn.qkv": (3 * width, width),
            f"blocks.{i}.attn.proj": (width, width),
            f"blocks.{i}.cross_attn.q_linear": (width, width),
            f"blocks.{i}.cross_attn.kv_linear": (2 * width, width),
            f"blocks.{i}.cross_attn.proj": (width, width),
            f"blocks.{i}.mlp.fc1": (4 * width, width),
            f"blocks.{i}.mlp.fc2": (width, 4 * width),
        }
        tables[f"blocks.{i}.scale_shift_table"] = randn(6, width, seed=80 + i) * 0.2
    for name in ("csize_embedder", "ar_embedder") if multi_scale else ():
        shapes |= {f"{name}.mlp.0": (width // 3, 256), f"{name}.mlp.2": (width // 3, width // 3)}
    # Larger weights sharpen attention until float32 gradients, anyone's, are off by 1e-5.
    return random_layers(shapes, scale=0.1) | tables


def original_mdtv2(half: int, decoder: int, width: int, heads: int, side: int, classes: int) -> dict[str, Tensor]:
    """A file in the layout of mdt_xl2_v2_ckpt.pt: patches of 2, 4 channels, side x side tokens, the variance learned."""
    shapes: dict[str, tuple[int, ...]] = {
        "x_embedder.proj": (width, 4, 2, 2),
        "t_embedder.mlp.0": (width, 256),
        "t_embedder.mlp.2": (width, width),
        "final_layer.linear": (32, width),
        "final_layer.adaLN_modulation.1": (2 * width, width),
    }
    biases: dict[str, Tensor] = {}
    for group, count in {"en_inblocks": half, "en_outblocks": half, "de_blocks": decoder, "sideblocks": 1}.items():
        for i in range(count):
            block = f"{group}.{i}"
            shapes |= {
                f"{block}.attn.qkv": (3 * width, width),
                f"{block}.attn.proj": (width, width),
                f"{block}.mlp.fc1": (4 * width, width),
                f"{block}.mlp.fc2": (width, 4 * width),
                f"{block}.adaLN_modulation.1": (6 * width, width),
            }
            if group in ("en_outblocks", "de_blocks"):
                shapes[f"{block}.skip_linear"] = (width, 2 * width)
            bias = f"{block}.attn.rel_pos_bias"
            biases[f"{bias}.relative_position_bias_table"] = randn((2 * side - 1) ** 2 + 3, heads, seed=len(biases))
            biases[f"{bias}.relative_position_index"] = offsets_on_a_square(side)
    return random_layers(shapes) | {
        "pos_embed": randn(1, side * side, width, seed=77),
        "decoder_pos_embed": randn(1, side * side, width, seed=78),
        "mask_token": randn(1, 1, width, seed=79),
        "y_embedder.embedding_table.weight": randn(classes + 1, width, seed=5),
        **biases,
    }


def offsets_on_a_square(side: int) -> Tensor:
    """BEiT's relative_position_index of a square window without its class token."""
    tokens = [(row, column) for row in range(side) for column in range(side)]
    rows = [[(a - c + side - 1) * (2 * side - 1) + b - d + side - 1 for c, d in tokens] for a, b in tokens]
    return torch.tensor(rows)
