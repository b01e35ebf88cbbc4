"""DiT's published layouts: the original file (facebookresearch/DiT) and diffusers' DiTTransformer2DModel.

Ours are the names of a `DiffusionModel` with the class in its modulation slot.
"""

from __future__ import annotations

from torch import Tensor

from open_ldm.denoisers.dit import DiTConfig
from open_ldm.model.published.keymap import Copies, KeyMap, Move, Same, layers, stacked_layers
from open_ldm.model.published.tables import patch_move, table_move

CLASS_TABLE = "conditioning.semantic.table.weight"
_QKV = ("to_q", "to_k", "to_v")


def original(config: DiTConfig, channels: int, grid: tuple[int, int]) -> KeyMap:
    """The layout of DiT-XL-2-256x256.pt: `pos_embed` [1, T, D], fused qkv, one class table."""
    moves: list[Move] = [
        table_move("pos_embed", config, grid),
        patch_move("x_embedder.proj.weight", config, channels),
        Same("x_embedder.proj.bias", "denoiser.patch_embedding.proj.bias"),
        Same("y_embedder.embedding_table.weight", CLASS_TABLE),
    ]
    pairs = {
        "t_embedder.mlp.0": "denoiser.time_embedding.mlp.0",
        "t_embedder.mlp.2": "denoiser.time_embedding.mlp.2",
        "final_layer.linear": "denoiser.final_layer.linear",
        "final_layer.adaLN_modulation.1": "denoiser.final_layer.modulation.linear",
    }
    for i in range(config.geometry.depth):
        pairs |= block_pairs(f"blocks.{i}", f"denoiser.blocks.{i}")
    return KeyMap([*moves, *layers(pairs)])


def block_pairs(theirs: str, ours: str) -> dict[str, str]:
    """Layers of one DiT block in the original layout -> ours; MDTv2's blocks share them."""
    return {
        f"{theirs}.attn.qkv": f"{ours}.attention.qkv",
        f"{theirs}.attn.proj": f"{ours}.attention.proj",
        f"{theirs}.mlp.fc1": f"{ours}.mlp.fc1",
        f"{theirs}.mlp.fc2": f"{ours}.mlp.fc2",
        f"{theirs}.adaLN_modulation.1": f"{ours}.modulation.linear",
    }


def diffusers(config: DiTConfig, channels: int) -> KeyMap:
    """The layout of DiTTransformer2DModel: the time MLP and the class table once per block, no position table."""
    depth = range(config.geometry.depth)
    moves: list[Move] = [
        patch_move("pos_embed.proj.weight", config, channels),
        Same("pos_embed.proj.bias", "denoiser.patch_embedding.proj.bias"),
    ]
    embedding = [f"transformer_blocks.{i}.norm1.emb" for i in depth]
    moves.append(Copies(tuple(f"{at}.class_embedder.embedding_table.weight" for at in embedding), CLASS_TABLE))
    for theirs, ours in (("linear_1", "0"), ("linear_2", "2")):
        moves += [
            Copies(
                tuple(f"{at}.timestep_embedder.{theirs}.{part}" for at in embedding),
                f"denoiser.time_embedding.mlp.{ours}.{part}",
            )
            for part in ("weight", "bias")
        ]
    pairs = {
        "proj_out_1": "denoiser.final_layer.modulation.linear",
        "proj_out_2": "denoiser.final_layer.linear",
    }
    for i in depth:
        there, here = f"transformer_blocks.{i}", f"denoiser.blocks.{i}"
        pairs |= {
            f"{there}.norm1.linear": f"{here}.modulation.linear",
            f"{there}.attn1.to_out.0": f"{here}.attention.proj",
            f"{there}.ff.net.0.proj": f"{here}.mlp.fc1",
            f"{there}.ff.net.2": f"{here}.mlp.fc2",
        }
        moves += stacked_layers([f"{there}.attn1.{name}" for name in _QKV], f"{here}.attention.qkv")
    return KeyMap([*moves, *layers(pairs)])


def is_original(state: dict[str, Tensor]) -> bool:
    """Whether the names are those of the original file."""
    return "x_embedder.proj.weight" in state
