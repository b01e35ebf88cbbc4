"""Stable Diffusion 3's published layouts: the original file (Stability's MMDiTX) and diffusers' SD3Transformer2DModel.

Ours are the names of a `DiffusionModel` whose captions enter by both slots: tokens as context, pooled vector as modulation.
"""

from __future__ import annotations

from open_ldm.denoisers.mmdit import MMDiTConfig
from open_ldm.model.published.keymap import HalvesSwapped, KeyMap, Move, Same, layers, stacked_layers
from open_ldm.model.published.tables import patch_move, table_move

POOLED = "conditioning.semantic.pooled"


def original(config: MMDiTConfig, channels: int, table: tuple[int, int]) -> KeyMap:
    """The layout of sd3_medium.safetensors behind its prefix. `table`: rows and columns of its position table."""
    pairs = {
        "t_embedder.mlp.0": "denoiser.time_embedding.mlp.0",
        "t_embedder.mlp.2": "denoiser.time_embedding.mlp.2",
        "y_embedder.mlp.0": f"{POOLED}.0",
        "y_embedder.mlp.2": f"{POOLED}.2",
        "context_embedder": "denoiser.context_embedding",
        "final_layer.linear": "denoiser.final_layer.linear",
        "final_layer.adaLN_modulation.1": "denoiser.final_layer.modulation.linear",
    }
    moves: list[Move] = [
        table_move("pos_embed", config, table),
        patch_move("x_embedder.proj.weight", config, channels),
        Same("x_embedder.proj.bias", "denoiser.patch_embedding.proj.bias"),
    ]
    for i in range(config.geometry.depth):
        for theirs, ours in (("x_block", "image"), ("context_block", "context")):
            there, here = f"joint_blocks.{i}.{theirs}", f"denoiser.blocks.{i}.{ours}"
            pairs |= {f"{there}.adaLN_modulation.1": f"{here}.modulation.linear", f"{there}.attn.qkv": f"{here}.qkv"}
            if not _gives_only(config, i, ours):
                pairs |= {
                    f"{there}.attn.proj": f"{here}.proj",
                    f"{there}.mlp.fc1": f"{here}.mlp.fc1",
                    f"{there}.mlp.fc2": f"{here}.mlp.fc2",
                }
            if config.qk_norm == "rms":
                moves += [Same(f"{there}.attn.ln_{name}.weight", f"{here}.norm_{name}.weight") for name in "qk"]
    return KeyMap([*moves, *layers(pairs)])


def diffusers(config: MMDiTConfig, channels: int, table: tuple[int, int]) -> KeyMap:
    """The layout of SD3Transformer2DModel. Its continuous norms hold (scale, shift), ours (shift, scale)."""
    pairs = {
        "time_text_embed.timestep_embedder.linear_1": "denoiser.time_embedding.mlp.0",
        "time_text_embed.timestep_embedder.linear_2": "denoiser.time_embedding.mlp.2",
        "time_text_embed.text_embedder.linear_1": f"{POOLED}.0",
        "time_text_embed.text_embedder.linear_2": f"{POOLED}.2",
        "context_embedder": "denoiser.context_embedding",
        "proj_out": "denoiser.final_layer.linear",
    }
    swapped = {"norm_out.linear": "denoiser.final_layer.modulation.linear"}
    moves: list[Move] = [
        table_move("pos_embed.pos_embed", config, table),
        patch_move("pos_embed.proj.weight", config, channels),
        Same("pos_embed.proj.bias", "denoiser.patch_embedding.proj.bias"),
    ]
    for i in range(config.geometry.depth):
        there, here = f"transformer_blocks.{i}", f"denoiser.blocks.{i}"
        last = _gives_only(config, i, "context")
        pairs[f"{there}.norm1.linear"] = f"{here}.image.modulation.linear"
        (swapped if last else pairs)[f"{there}.norm1_context.linear"] = f"{here}.context.modulation.linear"
        moves += stacked_layers([f"{there}.attn.to_{name}" for name in "qkv"], f"{here}.image.qkv")
        moves += stacked_layers([f"{there}.attn.add_{name}_proj" for name in "qkv"], f"{here}.context.qkv")
        streams = [("image", "to_out.0", "ff")] + ([] if last else [("context", "to_add_out", "ff_context")])
        for stream, out, mlp in streams:
            pairs |= {
                f"{there}.attn.{out}": f"{here}.{stream}.proj",
                f"{there}.{mlp}.net.0.proj": f"{here}.{stream}.mlp.fc1",
                f"{there}.{mlp}.net.2": f"{here}.{stream}.mlp.fc2",
            }
        if config.qk_norm == "rms":
            for name in "qk":
                moves.append(Same(f"{there}.attn.norm_{name}.weight", f"{here}.image.norm_{name}.weight"))
                moves.append(Same(f"{there}.attn.norm_added_{name}.weight", f"{here}.context.norm_{name}.weight"))
    return KeyMap([*moves, *layers(pairs), *layers(swapped, move=HalvesSwapped)])


def _gives_only(config: MMDiTConfig, block: int, stream: str) -> bool:
    """The last block's context gives q, k, v and nothing else."""
    return stream == "context" and block == config.geometry.depth - 1
