"""Stable Diffusion 3's published layouts: the original file (Stability's MMDiTX) and diffusers' SD3Transformer2DModel.

Ours are the names of a `DiffusionModel` whose captions enter by both slots: tokens as context, pooled vector as modulation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from open_ldm.conditioning.semantic import NoSemantic, TextSemantic
from open_ldm.core.errors import ConfigError
from open_ldm.core.extras import need
from open_ldm.denoisers.blocks.positions import (
    BicubicPositions,
    CentredPositions,
    ComputedPositions,
    Grid,
    Positions,
    ResampledPositions,
    StoredPositions,
    computed_table,
    sinusoidal_table,
)
from open_ldm.denoisers.mmdit import MMDiTConfig
from open_ldm.interop.family import (
    Description,
    Family,
    Layout,
    count_blocks,
    geometry,
    refuse_controls,
    shape_of,
    square_side,
)
from open_ldm.interop.files import WeightFile
from open_ldm.interop.keymap import Computed, HalvesSwapped, KeyMap, Move, Same, State, layers, stacked_layers
from open_ldm.interop.tables import TABLE, find_positions, patch_move, table_move
from open_ldm.model.spec import ModelSpec

POOLED = "conditioning.semantic.pooled"
BUNDLE = "model.diffusion_model."
"""Before the network's names in a file that also holds autoencoder and text encoders."""
LATENT_SIDE = 128
"""Of Stable Diffusion 3 medium, for pictures of 1024 px."""
_ORIGINAL_SHAPES = ("x_embedder.proj.weight", "pos_embed")


def original(config: MMDiTConfig, channels: int, pooled: bool) -> KeyMap:
    """Build the layout of sd3_medium.safetensors behind its prefix. `pooled`: whether the model has a pooled vector."""
    pairs = {
        "t_embedder.mlp.0": "denoiser.time_embedding.mlp.0",
        "t_embedder.mlp.2": "denoiser.time_embedding.mlp.2",
        "context_embedder": "denoiser.context_embedding",
        "final_layer.linear": "denoiser.final_layer.linear",
        "final_layer.adaLN_modulation.1": "denoiser.final_layer.modulation.linear",
    }
    moves: list[Move] = [
        *_pooled_moves(config, ("y_embedder.mlp.0", "y_embedder.mlp.2"), pooled),
        table_move("pos_embed", config, _table(config)),
        patch_move("x_embedder.proj.weight", config, channels),
        Same("x_embedder.proj.bias", "denoiser.patch_embedding.proj.bias"),
    ]
    for i in range(config.geometry.depth):
        for theirs, ours in (("x_block", "image"), ("context_block", "context")):
            there, here = f"joint_blocks.{i}.{theirs}", f"denoiser.blocks.{i}.{ours}"
            pairs |= {f"{there}.adaLN_modulation.1": f"{here}.modulation.linear", f"{there}.attn.qkv": f"{here}.qkv"}
            if not _is_context_pre_only(config, i, ours):
                pairs |= {
                    f"{there}.attn.proj": f"{here}.proj",
                    f"{there}.mlp.fc1": f"{here}.mlp.fc1",
                    f"{there}.mlp.fc2": f"{here}.mlp.fc2",
                }
            if config.qk_norm == "rms":
                moves += [Same(f"{there}.attn.ln_{name}.weight", f"{here}.norm_{name}.weight") for name in "qk"]
    return KeyMap([*moves, *layers(pairs)])


def diffusers(config: MMDiTConfig, channels: int, pooled: bool) -> KeyMap:
    """Build the layout of SD3Transformer2DModel. Its continuous norms hold (scale, shift), ours (shift, scale)."""
    pairs = {
        "time_text_embed.timestep_embedder.linear_1": "denoiser.time_embedding.mlp.0",
        "time_text_embed.timestep_embedder.linear_2": "denoiser.time_embedding.mlp.2",
        "context_embedder": "denoiser.context_embedding",
        "proj_out": "denoiser.final_layer.linear",
    }
    swapped = {"norm_out.linear": "denoiser.final_layer.modulation.linear"}
    moves: list[Move] = [
        *_pooled_moves(config, tuple(f"time_text_embed.text_embedder.linear_{i}" for i in (1, 2)), pooled),
        table_move("pos_embed.pos_embed", config, _table(config)),
        patch_move("pos_embed.proj.weight", config, channels),
        Same("pos_embed.proj.bias", "denoiser.patch_embedding.proj.bias"),
    ]
    for i in range(config.geometry.depth):
        there, here = f"transformer_blocks.{i}", f"denoiser.blocks.{i}"
        last = _is_context_pre_only(config, i, "context")
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


def _table(config: MMDiTConfig) -> Grid:
    """Rows and columns of the published position table."""
    match config.positions:
        case StoredPositions(rows=rows, columns=columns):
            return rows, columns
        case CentredPositions(side=side):
            return side, side
        case _:
            raise ConfigError("the published layout needs a position table of fixed size", needed="centred or stored positions")


def _pooled_moves(config: MMDiTConfig, names: Sequence[str], pooled: bool) -> list[Move]:
    """Linear, SiLU, Linear of the pooled vector; all zero, so that it adds nothing, where the model has none."""
    if pooled:
        return layers({name: f"{POOLED}.{part}" for name, part in zip(names, ("0", "2"), strict=True)})
    width = config.geometry.width
    moves: list[Move] = []
    for name, inputs in zip(names, (1, width), strict=True):
        moves += [Computed(f"{name}.weight", torch.zeros(width, inputs)), Computed(f"{name}.bias", torch.zeros(width))]
    return moves


def _is_context_pre_only(config: MMDiTConfig, block: int, stream: str) -> bool:
    """Whether a stream is the last block's context, which has q, k, v and nothing behind the attention."""
    return stream == "context" and block == config.geometry.depth - 1


class MMDiTFamily(Family):
    """Stable Diffusion 3's mmDiT, conditioned on captions: medium, and others of its plain form."""

    recipe = "sd3-medium"

    def tensors(self, file: WeightFile) -> State:
        """Return the tensors of the network, also from a file that holds the autoencoder and encoders beside it."""
        inside = {name: tensor for name, tensor in file.state.items() if name.startswith(BUNDLE)}
        return {name.removeprefix(BUNDLE): tensor for name, tensor in inside.items()} if inside else file.state

    def describe(self, file: WeightFile, state: State) -> Description:
        """Read the geometry and the position table from the shapes; see `Family.describe`."""
        kernel, table = ("pos_embed.proj.weight", "pos_embed.pos_embed") if file.is_diffusers else _ORIGINAL_SHAPES
        width, channels, patch, _ = shape_of(state, kernel)
        depth = count_blocks(state, "transformer_blocks" if file.is_diffusers else "joint_blocks")
        heads = depth if width == 64 * depth else None  # SD3's rule: heads of 64, as many as blocks
        settings = geometry(width, depth, file.config.get("num_attention_heads", heads))
        norm = "transformer_blocks.0.attn.norm_q.weight" if file.is_diffusers else "joint_blocks.0.x_block.attn.ln_q.weight"
        side = square_side(shape_of(state, table)[1], table)
        positions = find_positions(state[table], CentredPositions(side=side), (side, side))
        settings |= {
            "denoiser.patch": patch,
            "denoiser.qk_norm": "rms" if norm in state else "none",
            "denoiser.positions": positions.model_dump(),
            "autoencoder.channels": channels,
        }
        return Description(settings, min(LATENT_SIDE, side * patch))

    def key_map(self, spec: ModelSpec, layout: Layout) -> KeyMap:
        """Return where each tensor of an SD3 network lies in a file; see `Family.key_map`."""
        config = _config(spec)
        semantic = spec.conditioning.semantic
        pooled = isinstance(semantic, TextSemantic) and semantic.route == "both"
        return (diffusers if layout == "diffusers" else original)(config, spec.facts.channels, pooled)

    def for_export(self, spec: ModelSpec, ours: Mapping[str, Tensor]) -> tuple[ModelSpec, Mapping[str, Tensor]]:
        """With the position table as numbers in a square, from whose middle diffusers cuts what it needs."""
        config = _config(spec)
        if isinstance(config.positions, StoredPositions):
            return spec, ours
        height, width = spec.facts.latent_size
        table = square_table(config.positions, (height // config.patch, width // config.patch), config.geometry.width)
        stored = config.model_copy(update={"positions": StoredPositions(rows=len(table), columns=len(table))})
        return replace(spec, denoiser=stored), {**ours, TABLE: table}

    def peer(self, spec: ModelSpec) -> nn.Module:
        """Build diffusers' `SD3Transformer2DModel`; see `Family.peer`."""
        config, semantic = _config(spec), spec.conditioning.semantic
        refuse_controls(spec)
        if isinstance(semantic, NoSemantic) or semantic.route == "modulation":
            raise ConfigError("diffusers' SD3 needs context tokens", needed="a model with route: context or both")
        if not isinstance(config.positions, StoredPositions) or config.positions.rows != config.positions.columns:
            raise ConfigError("diffusers' SD3 needs a square position table", fix="use the run folder")
        shape = config.geometry
        network: nn.Module = need("diffusers", extra="autoencoders").SD3Transformer2DModel(
            sample_size=max(spec.facts.latent_size),
            patch_size=config.patch,
            in_channels=spec.facts.channels,
            out_channels=spec.output_channels,
            num_layers=shape.depth,
            attention_head_dim=shape.width // shape.heads,
            num_attention_heads=shape.heads,
            joint_attention_dim=spec.context_dim,
            caption_projection_dim=shape.width,
            pooled_projection_dim=_pooled_dim(spec),
            pos_embed_max_size=config.positions.rows,
            qk_norm="rms_norm" if config.qk_norm == "rms" else None,
        )
        return network

    def notes(self, spec: ModelSpec) -> str:
        """Explain the inputs of the exported network; see `Family.notes`."""
        semantic = spec.conditioning.semantic
        pooled = (
            ""
            if isinstance(semantic, TextSemantic) and semantic.route == "both"
            else ("The model has no pooled vector: give zeros [B, 1] as pooled_projections, which its zero weights ignore.\n")
        )
        time = "the discrete step, 0 to 999 (1000 t for a flow, where t = 1 is noise)"
        return f"{pooled}timestep is {time}; encoder_hidden_states are the tokens after padding.\n"


def square_table(positions: ComputedPositions, grid: Grid, width: int) -> Tensor:
    """Compute a square table from whose middle diffusers cuts what `positions` give on a grid.

    Args:
        positions: The model's.
        grid: Rows and columns of its tokens.
        width: D.

    Returns:
        Table [side, side, D], float32.

    Raises:
        ConfigError: There is no such table: positions are resampled or interpolated, and the grid is not square.
    """
    if isinstance(positions, ResampledPositions | BicubicPositions):
        if grid[0] != grid[1]:
            raise ConfigError("diffusers' SD3 needs a square position table", fix="use the run folder")
        return computed_table(positions, grid, width).float().view(*grid, width)
    if isinstance(positions, CentredPositions):
        side = positions.side
        whole: Tensor = Positions(positions, width)((side, side), torch.device("cpu"))
        return whole.view(side, side, width)
    side = max(grid)
    rows, columns = (
        (torch.arange(side, dtype=torch.float64) - (side - size) // 2)
        * (1 if positions.base is None else positions.base / size)
        for size in grid
    )
    return sinusoidal_table(rows, columns, width).float().view(side, side, width)


def _pooled_dim(spec: ModelSpec) -> int:
    semantic = spec.conditioning.semantic
    return semantic.encoder.pooled_width if isinstance(semantic, TextSemantic) and semantic.route == "both" else 1


def _config(spec: ModelSpec) -> MMDiTConfig:
    assert isinstance(spec.denoiser, MMDiTConfig)
    return spec.denoiser
