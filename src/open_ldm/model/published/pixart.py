"""PixArt-alpha's published layouts: the original file (PixArt and PixArtMS) and diffusers' PixArtTransformer2DModel.

Ours are the names of a `DiffusionModel` whose captions enter as context. What a dropped caption is replaced by
(`y_embedding`) belongs to the conditioning; diffusers keeps it, if at all, under `caption_projection.y_embedding`.
The multi-scale models also read the original size and the aspect ratio, which are `CONTROLS` here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from open_ldm.controls import AspectRatio, OriginalSize
from open_ldm.controls.gate import ConstantGate
from open_ldm.core.errors import CheckpointError
from open_ldm.denoisers.blocks.positions import Grid, GridPositions, PositionsConfig
from open_ldm.denoisers.pixart import PixArtConfig
from open_ldm.model.published.keymap import KeyMap, Move, Same, State, layers, stacked_layers
from open_ldm.model.published.tables import patch_move, positions_of, table_move

NULL_TOKENS = "conditioning.semantic.null_tokens"
CONTROLS = (OriginalSize(gate=ConstantGate()), AspectRatio(measure="height_over_width"))
"""The controls of a multi-scale model, as it reads them: pixels and the plain ratio, at all times."""

LEWEI_SCALES = (0.5, 1.0, 2.0)
"""Scales of the position table for 256, 512 and 1024 px, in the published sampling scripts; the 256 px training file says 1."""


@dataclass(frozen=True)
class NumberMlp(Move):
    """One MLP (256 features -> D/3 -> D/3) that PixArt applies to each number of a condition <-> our MLP over all of them.

    Number i fills the third `thirds[i]` of the D outputs, so ours is made of copies of theirs in blocks and zeros elsewhere.
    """

    their_layers: tuple[str, str]
    control: str
    thirds: tuple[int, ...]

    def __post_init__(self) -> None:
        ours = (f"conditioning.controls.{self.control}.{layer}" for layer in ("hidden", "out"))
        for side, names in (("theirs", self.their_layers), ("ours", ours)):
            object.__setattr__(self, side, tuple(f"{name}.{part}" for name in names for part in ("weight", "bias")))

    def read(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        weight_in, bias_in, weight_out, bias_out = tensors
        third, features = weight_in.shape
        hidden, out = weight_in.new_zeros(3 * third, features * len(self.thirds)), weight_out.new_zeros(3 * third, 3 * third)
        hidden_bias, out_bias = bias_in.new_zeros(3 * third), bias_out.new_zeros(3 * third)
        for number, rows in enumerate(self._rows(third)):
            hidden[rows, number * features : (number + 1) * features] = weight_in
            out[rows, rows] = weight_out
            hidden_bias[rows], out_bias[rows] = bias_in, bias_out
        return [hidden, hidden_bias, out, out_bias]

    def write(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        hidden, hidden_bias, out, out_bias = tensors
        third, features = len(hidden) // 3, hidden.shape[1] // len(self.thirds)
        rows = self._rows(third)[0]
        theirs = [hidden[rows, :features], hidden_bias[rows], out[rows, rows], out_bias[rows]]
        if not all(torch.equal(one, other) for one, other in zip(self.read(theirs), tensors, strict=True)):
            raise CheckpointError(
                f"the control {self.control} does not fit PixArt's layout",
                needed="one MLP, the same for every number, in a third of the width each",
                fix="weights that were imported from PixArt and trained no further",
            )
        return theirs

    def _rows(self, third: int) -> list[slice]:
        return [slice(place * third, (place + 1) * third) for place in self.thirds]


def original(
    config: PixArtConfig, channels: int, grid: Grid, *, multi_scale: bool, stored: GridPositions | None = None
) -> KeyMap:
    """The layout of PixArt-XL-2-512x512.pth and, `multi_scale`, of PixArt-XL-2-1024-MS.pth, inside its `state_dict`.

    `grid`: tokens a side of the file's `pos_embed`. The original code throws that table away and computes one from its
    `lewei_scale`; where the file's is another than `config.positions`, `stored` is its formula.
    """
    table = config if stored is None else config.model_copy(update={"positions": stored})
    pairs = {
        "t_embedder.mlp.0": "denoiser.time_embedding.mlp.0",
        "t_embedder.mlp.2": "denoiser.time_embedding.mlp.2",
        "t_block.1": "denoiser.modulation.linear",
        "y_embedder.y_proj.fc1": "denoiser.context_projection.fc1",
        "y_embedder.y_proj.fc2": "denoiser.context_projection.fc2",
        "final_layer.linear": "denoiser.final_layer.linear",
    }
    moves: list[Move] = [
        table_move("pos_embed", table, grid),
        patch_move("x_embedder.proj.weight", config, channels),
        Same("x_embedder.proj.bias", "denoiser.patch_embedding.proj.bias"),
        Same("y_embedder.y_embedding", NULL_TOKENS),
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
    if multi_scale:
        moves += _controls("csize_embedder.mlp", "ar_embedder.mlp", ("0", "2"))
    return KeyMap([*moves, *layers(pairs)])


def diffusers(config: PixArtConfig, channels: int, *, multi_scale: bool, null_tokens: bool = False) -> KeyMap:
    """The layout of PixArtTransformer2DModel; `null_tokens`: with `y_embedding`, as early converters kept it."""
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
        moves.append(Same("caption_projection.y_embedding", NULL_TOKENS))
    return KeyMap([*moves, *layers(pairs)])


def _controls(sizes: str, ratio: str, names: tuple[str, str]) -> list[Move]:
    """Height and width in the first two thirds of the width, the ratio in the last."""
    first, second = names
    return [
        NumberMlp((f"{sizes}.{first}", f"{sizes}.{second}"), "original_size", (0, 1)),
        NumberMlp((f"{ratio}.{first}", f"{ratio}.{second}"), "aspect_ratio", (2,)),
    ]


def positions_for(side: int, lewei_scale: float) -> GridPositions:
    """The positions of a network made for `side` tokens a side; in diffusers the scale is called `interpolation_scale`."""
    return GridPositions(base=side / lewei_scale)


def positions_in(state: State, side: int) -> PositionsConfig:
    """The positions whose table a file holds: the formula with one of `LEWEI_SCALES`, else the table itself."""
    table = state["pos_embed"]
    found = [positions_of(table, positions_for(side, scale), (side, side)) for scale in LEWEI_SCALES]
    return next((positions for positions in found if isinstance(positions, GridPositions)), found[0])


def is_original(state: State) -> bool:
    """Whether the names are those of the original file."""
    return "x_embedder.proj.weight" in state


def is_multi_scale(state: State) -> bool:
    """Whether a state of either layout reads the original size and the aspect ratio."""
    return "csize_embedder.mlp.0.weight" in state or "adaln_single.emb.resolution_embedder.linear_1.weight" in state
