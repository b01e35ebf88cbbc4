"""PixArt-alpha's published layouts: the original file (PixArt and PixArtMS) and diffusers' PixArtTransformer2DModel.

Ours are the names of a `DiffusionModel` whose captions enter as context. What a dropped caption is replaced by
(`y_embedding`) belongs to the conditioning; diffusers' class cannot hold it, but folders of released weights hold it.
The multi-scale models also read the original size and the aspect ratio, which are `CONTROLS` here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from open_ldm.conditioning.semantic import TextSemantic
from open_ldm.controls import AspectRatio, OriginalSize
from open_ldm.controls.gate import ConstantGate
from open_ldm.core.errors import ConfigError
from open_ldm.core.extras import need
from open_ldm.denoisers.blocks.positions import (
    Grid,
    GridPositions,
    Positions,
    PositionsConfig,
    ResampledPositions,
    StoredPositions,
)
from open_ldm.denoisers.pixart import PixArtConfig
from open_ldm.interop.family import (
    Description,
    Family,
    Layout,
    count_blocks,
    geometry,
    refuse_controls,
    refuse_qk_norm,
    shape_of,
    square_side,
)
from open_ldm.interop.files import WeightFile
from open_ldm.interop.keymap import KeyMap, Move, Same, State, layers, stacked_layers
from open_ldm.interop.number_mlp import NumberMlp
from open_ldm.interop.tables import patch_move, table_move
from open_ldm.model.spec import ModelSpec

NULL_TOKENS = "conditioning.semantic.null_tokens"
THEIR_NULL_TOKENS = "caption_projection.y_embedding"
CONTROLS = (OriginalSize(gate=ConstantGate()), AspectRatio(measure="height_over_width"))
"""The controls of a multi-scale model, as it reads them: pixels and the plain ratio, at all times."""

LEWEI_SCALES = (0.5, 1.0, 2.0)
"""Scales of the position table for 256, 512 and 1024 px, in the published sampling scripts; the 256 px training file says 1."""


def original(config: PixArtConfig, channels: int, grid: Grid | None, *, null_tokens: bool, multi_scale: bool) -> KeyMap:
    """Build the layout of PixArt-XL-2-512x512.pth and, `multi_scale`, of PixArt-XL-2-1024-MS.pth, inside its `state_dict`.

    `grid`: rows and columns of the file's `pos_embed`, None without that table.
    """
    pairs = {
        "t_embedder.mlp.0": "denoiser.time_embedding.mlp.0",
        "t_embedder.mlp.2": "denoiser.time_embedding.mlp.2",
        "t_block.1": "denoiser.modulation.linear",
        "y_embedder.y_proj.fc1": "denoiser.context_projection.fc1",
        "y_embedder.y_proj.fc2": "denoiser.context_projection.fc2",
        "final_layer.linear": "denoiser.final_layer.linear",
    }
    moves: list[Move] = [
        patch_move("x_embedder.proj.weight", config, channels),
        Same("x_embedder.proj.bias", "denoiser.patch_embedding.proj.bias"),
        Same("final_layer.scale_shift_table", "denoiser.final_layer.table.vectors"),
    ]
    for i in range(config.geometry.depth):
        there, here = f"blocks.{i}", f"denoiser.blocks.{i}"
        moves.append(Same(f"{there}.scale_shift_table", f"{here}.table.vectors"))
        pairs |= {
            f"{there}.attn.qkv": f"{here}.attention.qkv",
            f"{there}.attn.proj": f"{here}.attention.proj",
            f"{there}.cross_attn.q_linear": f"{here}.cross_attention.q",
            f"{there}.cross_attn.kv_linear": f"{here}.cross_attention.kv",
            f"{there}.cross_attn.proj": f"{here}.cross_attention.proj",
            f"{there}.mlp.fc1": f"{here}.mlp.fc1",
            f"{there}.mlp.fc2": f"{here}.mlp.fc2",
        }
    if grid is not None:
        moves.append(table_move("pos_embed", config, grid))
    if null_tokens:
        moves.append(Same("y_embedder.y_embedding", NULL_TOKENS))
    if multi_scale:
        moves += _controls("csize_embedder.mlp", "ar_embedder.mlp", ("0", "2"))
    return KeyMap([*moves, *layers(pairs)])


def diffusers(config: PixArtConfig, channels: int, *, null_tokens: bool, multi_scale: bool) -> KeyMap:
    """Build the layout of PixArtTransformer2DModel; `null_tokens`: with `y_embedding` beside it."""
    pairs = {
        "adaln_single.emb.timestep_embedder.linear_1": "denoiser.time_embedding.mlp.0",
        "adaln_single.emb.timestep_embedder.linear_2": "denoiser.time_embedding.mlp.2",
        "adaln_single.linear": "denoiser.modulation.linear",
        "caption_projection.linear_1": "denoiser.context_projection.fc1",
        "caption_projection.linear_2": "denoiser.context_projection.fc2",
        "proj_out": "denoiser.final_layer.linear",
    }
    moves: list[Move] = [
        patch_move("pos_embed.proj.weight", config, channels),
        Same("pos_embed.proj.bias", "denoiser.patch_embedding.proj.bias"),
        Same("scale_shift_table", "denoiser.final_layer.table.vectors"),
    ]
    for i in range(config.geometry.depth):
        there, here = f"transformer_blocks.{i}", f"denoiser.blocks.{i}"
        moves.append(Same(f"{there}.scale_shift_table", f"{here}.table.vectors"))
        moves += stacked_layers([f"{there}.attn1.to_{name}" for name in "qkv"], f"{here}.attention.qkv")
        moves += stacked_layers([f"{there}.attn2.to_{name}" for name in "kv"], f"{here}.cross_attention.kv")
        pairs |= {
            f"{there}.attn1.to_out.0": f"{here}.attention.proj",
            f"{there}.attn2.to_q": f"{here}.cross_attention.q",
            f"{there}.attn2.to_out.0": f"{here}.cross_attention.proj",
            f"{there}.ff.net.0.proj": f"{here}.mlp.fc1",
            f"{there}.ff.net.2": f"{here}.mlp.fc2",
        }
    if multi_scale:
        embedders = "adaln_single.emb.resolution_embedder", "adaln_single.emb.aspect_ratio_embedder"
        moves += _controls(*embedders, ("linear_1", "linear_2"))
    if null_tokens:
        moves.append(Same(THEIR_NULL_TOKENS, NULL_TOKENS))
    return KeyMap([*moves, *layers(pairs)])


def _controls(sizes: str, ratio: str, names: tuple[str, str]) -> list[Move]:
    """Height and width in the first two thirds of the width, the ratio in the last."""
    first, second = names
    return [
        NumberMlp((f"{sizes}.{first}", f"{sizes}.{second}"), "original_size", (0, 1)),
        NumberMlp((f"{ratio}.{first}", f"{ratio}.{second}"), "aspect_ratio", (2,)),
    ]


class PixArtFamily(Family):
    """PixArt-alpha-XL/2 for 256, 512 and 1024 px, and the multi-scale models, conditioned on captions."""

    recipe = "pixart-alpha-xl2"

    def tensors(self, file: WeightFile) -> State:
        """Select all tensors but a position table that a formula gives: the original code ignores it too, and computes one."""
        state = dict(file.state)
        if NULL_TOKENS in state:  # a folder that `ldm export` wrote
            state[THEIR_NULL_TOKENS] = state.pop(NULL_TOKENS)
        if "pos_embed" in state and isinstance(find_positions(state["pos_embed"]), GridPositions):
            del state["pos_embed"]
        return state

    def describe(self, file: WeightFile, state: State) -> Description:
        """Read the geometry, the position table and the quirks of a PixArt network; see `Family.describe`."""
        kernel, projection, blocks, out = _DIFFUSERS_SHAPES if file.is_diffusers else _ORIGINAL_SHAPES
        width, channels, patch, _ = shape_of(state, kernel)
        settings = geometry(width, count_blocks(state, blocks), file.config.get("num_attention_heads"))
        if file.is_diffusers:
            side = int(file.config["sample_size"])
            scale = file.config.get("interpolation_scale")
            positions: PositionsConfig = positions_for(side // patch, max(side // 64, 1) if scale is None else scale)
        else:
            side = patch * square_side(shape_of(file.state, "pos_embed")[1], "pos_embed")
            positions = find_positions(file.state["pos_embed"])
        settings |= {
            "denoiser.patch": patch,
            "denoiser.positions": positions.model_dump(),
            "autoencoder.channels": channels,
            "process.learned_variance": shape_of(state, out)[0] == 2 * channels * patch**2,
            f"{_ENCODER}.width": shape_of(state, projection)[1],
            "conditioning.controls": [control.model_dump() for control in CONTROLS] if is_multi_scale(state) else [],
            "sampling.guidance.keep_controls": is_multi_scale(state),  # they were never trained without
        }
        for name in ("y_embedder.y_embedding", THEIR_NULL_TOKENS):
            if name in state:
                settings[f"{_ENCODER}.length"] = len(state[name])
        return Description(settings, side)

    def key_map(self, spec: ModelSpec, layout: Layout) -> KeyMap:
        """Return where each tensor of a PixArt network lies in a file; see `Family.key_map`."""
        config, semantic = _config(spec), spec.conditioning.semantic
        refuse_qk_norm(config)
        null_tokens = isinstance(semantic, TextSemantic) and semantic.null_kind == "table"
        multi_scale = bool(spec.conditioning.controls)
        if layout == "diffusers":
            return diffusers(config, spec.facts.channels, null_tokens=null_tokens, multi_scale=multi_scale)
        stored = config.positions
        grid = (stored.rows, stored.columns) if isinstance(stored, StoredPositions) else None
        return original(config, spec.facts.channels, grid, null_tokens=null_tokens, multi_scale=multi_scale)

    def for_export(self, spec: ModelSpec, ours: Mapping[str, Tensor]) -> tuple[ModelSpec, Mapping[str, Tensor]]:
        """Rewrite a model without null tokens, which diffusers cannot hold, and with coordinates that depend on no grid."""
        semantic, config = spec.conditioning.semantic, _config(spec)
        if isinstance(semantic, TextSemantic) and semantic.null_kind == "table":
            without = semantic.model_copy(update={"null_kind": "zeros"})
            spec = replace(spec, conditioning=spec.conditioning.model_copy(update={"semantic": without}))
        height, width = spec.facts.latent_size
        base = None
        if config.positions == GridPositions() and height == width:
            base = height / config.patch
        elif isinstance(config.positions, ResampledPositions) and config.positions.of == GridPositions():
            base = config.positions.rows if config.positions.rows == config.positions.columns else None
        if base is not None:
            positions = GridPositions(base=base)
            spec = replace(spec, denoiser=config.model_copy(update={"positions": positions}))
        return spec, ours

    def peer(self, spec: ModelSpec) -> nn.Module:
        """Build diffusers' `PixArtTransformer2DModel`; see `Family.peer`."""
        config, shape, semantic = _config(spec), _config(spec).geometry, spec.conditioning.semantic
        refuse_qk_norm(config)
        if spec.conditioning.controls != CONTROLS:
            refuse_controls(spec)
        if not isinstance(config.positions, GridPositions) or config.positions.base is None:
            raise ConfigError("diffusers' PixArt cannot hold this position table", fix="use the run folder")
        if spec.context_dim is None or (isinstance(semantic, TextSemantic) and semantic.route == "both"):
            raise ConfigError("diffusers' PixArt reads context tokens and nothing else", needed="a model with route: context")
        side = max(spec.facts.latent_size)
        network: nn.Module = need("diffusers", extra="autoencoders").PixArtTransformer2DModel(
            num_attention_heads=shape.heads,
            attention_head_dim=shape.width // shape.heads,
            in_channels=spec.facts.channels,
            out_channels=spec.output_channels,
            num_layers=shape.depth,
            cross_attention_dim=shape.width,
            sample_size=side,
            patch_size=config.patch,
            interpolation_scale=side // config.patch / config.positions.base,
            use_additional_conditions=bool(spec.conditioning.controls),
            caption_channels=spec.context_dim,
        )
        return network

    def notes(self, spec: ModelSpec) -> str:
        """Explain the inputs of the exported network; see `Family.notes`."""
        text = (
            "timestep is the discrete step, 0 to 999 (1000 t for a flow); encoder_attention_mask is 1 at a caption's tokens.\n"
            "diffusers' pipeline guides against an empty caption, released weights were trained against null tokens.\n"
        )
        sizes = "added_cond_kwargs: resolution [B, 2] is (height, width) in pixels, aspect_ratio [B, 1] height / width.\n"
        return text + (sizes if spec.conditioning.controls else "")


_ENCODER = "conditioning.semantic.encoder.models.0.0"
_ORIGINAL_SHAPES = ("x_embedder.proj.weight", "y_embedder.y_proj.fc1.weight", "blocks", "final_layer.linear.weight")
_DIFFUSERS_SHAPES = ("pos_embed.proj.weight", "caption_projection.linear_1.weight", "transformer_blocks", "proj_out.weight")


def positions_for(side: int, lewei_scale: float) -> GridPositions:
    """The positions of a network made for `side` tokens a side; in diffusers the scale is called `interpolation_scale`."""
    return GridPositions(base=side / lewei_scale)


def find_positions(table: Tensor) -> PositionsConfig:
    """Find the positions that a table [1, T, D] holds: the formula with one of `LEWEI_SCALES`, else stored numbers."""
    side = square_side(table.shape[1], "pos_embed")
    for scale in LEWEI_SCALES:
        positions = positions_for(side, scale)
        computed: Tensor = Positions(positions, table.shape[2])((side, side), table.device)
        if torch.equal(table[0], computed.to(table.dtype)):
            return positions
    return StoredPositions(rows=side, columns=side)


def is_multi_scale(state: State) -> bool:
    """Whether a state of either layout reads the original size and the aspect ratio."""
    return "csize_embedder.mlp.0.weight" in state or "adaln_single.emb.resolution_embedder.linear_1.weight" in state


def _config(spec: ModelSpec) -> PixArtConfig:
    assert isinstance(spec.denoiser, PixArtConfig)
    return spec.denoiser
