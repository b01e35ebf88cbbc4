"""The UNet's published layouts: the original file (CompVis/latent-diffusion) and diffusers' UNet2DConditionModel.

Ours are the names of a `DiffusionModel`. Published kernels are [out, in, k, k], ours [out, k, k, in], and matrices where k = 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from open_ldm.conditioning.semantic import ClassSemantic, NoSemantic, TextSemantic
from open_ldm.core.errors import CheckpointError, ConfigError
from open_ldm.core.extras import need
from open_ldm.denoisers.unet import UNetConfig, UNetGeometry
from open_ldm.interop.family import Description, Family, Layout, refuse_controls
from open_ldm.interop.files import WeightFile
from open_ldm.interop.keymap import Computed, KeyMap, Move, Same, Stacked, State, layers
from open_ldm.interop.unet_geometry import described
from open_ldm.model.spec import ModelSpec

BUNDLE = "model.diffusion_model."
"""Before the network's names in a file that also holds autoencoder and conditions."""
CLASS_TABLE = "conditioning.semantic.table.weight"
CLASS_TOKENS = "cond_stage_model.embedding.weight"
"""The original file's table of class tokens, [1001, 512] in LDM-4-G."""


@dataclass(frozen=True)
class Kernel(Same):
    """A convolution's kernel: theirs [out, in, k, k], ours [out, k, k, in]."""

    def read(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Permute [out, in, k, k] to [out, k, k, in]. Raises CheckpointError where theirs is no such kernel."""
        (tensor,) = tensors
        if tensor.ndim != 4:
            raise CheckpointError(f"{self.their_name} has shape {list(tensor.shape)}", needed="a kernel [out, in, k, k]")
        return [tensor.permute(0, 2, 3, 1).contiguous()]

    def write(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Permute [out, k, k, in] to [out, in, k, k]."""
        return [tensors[0].permute(0, 3, 1, 2).contiguous()]


@dataclass(frozen=True)
class PointKernel(Same):
    """A kernel of one pixel: theirs [out, in, 1, 1], ours [out, in]."""

    def read(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Drop the two sides of length 1. Raises CheckpointError where theirs are longer."""
        (tensor,) = tensors
        if tensor.shape[2:] != (1, 1):
            raise CheckpointError(f"{self.their_name} has shape {list(tensor.shape)}", needed="a kernel [out, in, 1, 1]")
        return [tensor[:, :, 0, 0]]

    def write(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Add the two sides of length 1."""
        return [tensors[0][:, :, None, None]]


@dataclass(frozen=True)
class Names:
    """What a layout calls the parts of a residual block, and the layers outside the levels."""

    residual: tuple[str, str, str, str, str, str]
    ends: tuple[str, str, str, str, str]
    class_table: str


_OURS = Names(
    ("norm_1", "conv_1", "modulation", "norm_2", "conv_2", "skip"),
    ("time_embedding.mlp.0", "time_embedding.mlp.2", "conv_in", "norm_out", "conv_out"),
    CLASS_TABLE,
)
_NAMES: dict[Layout, Names] = {
    "original": Names(
        ("in_layers.0", "in_layers.2", "emb_layers.1", "out_layers.0", "out_layers.3", "skip_connection"),
        ("time_embed.0", "time_embed.2", "input_blocks.0.0", "out.0", "out.2"),
        "label_emb.weight",
    ),
    "diffusers": Names(
        ("norm1", "conv1", "time_emb_proj", "norm2", "conv2", "conv_shortcut"),
        ("time_embedding.linear_1", "time_embedding.linear_2", "conv_in", "conv_norm_out", "conv_out"),
        "class_embedding.weight",
    ),
}


@dataclass(frozen=True)
class Part:
    """One module of the UNet: its names in both published layouts and in ours; `skip`: whether its channels change."""

    kind: str
    original: str
    diffusers: str
    ours: str
    skip: bool = False


def parts(shape: UNetGeometry) -> Iterator[Part]:
    """List every residual block, transformer and change of resolution, in the order of the forward pass."""
    coarsest, per_level, number = len(shape.channels) - 1, shape.blocks_per_level, 0
    for level, width in enumerate(shape.channels):
        before = shape.channels[level - 1] if level else shape.model_channels
        for j in range(per_level):
            number += 1
            at = Part("", f"input_blocks.{number}", f"down_blocks.{level}", f"down.{level}.stages.{j}")
            yield from _stage(at, j, shape.attends(level), skip=j == 0 and before != width)
        if level < coarsest:
            number += 1
            there = f"down_blocks.{level}.downsamplers.0.conv"
            yield Part("resample", f"input_blocks.{number}.0.op", there, f"down.{level}.resample")
    yield Part("residual", "middle_block.0", "mid_block.resnets.0", "middle.0.residual")
    yield Part("transformer", "middle_block.1", "mid_block.attentions.0", "middle.0.transformer")
    yield Part("residual", "middle_block.2", "mid_block.resnets.1", "middle.1.residual")
    for up, level in enumerate(reversed(range(coarsest + 1))):
        for j in range(per_level + 1):
            at = Part("", f"output_blocks.{up * (per_level + 1) + j}", f"up_blocks.{up}", f"up.{up}.stages.{j}")
            yield from _stage(at, j, shape.attends(level), skip=True)
        if level:
            there = f"{at.original}.{2 if shape.attends(level) else 1}.conv"
            yield Part("resample", there, f"up_blocks.{up}.upsamplers.0.conv", f"up.{up}.resample.conv")


def _stage(at: Part, j: int, attends: bool, skip: bool) -> Iterator[Part]:
    yield Part("residual", f"{at.original}.0", f"{at.diffusers}.resnets.{j}", f"{at.ours}.residual", skip)
    if attends:
        yield Part("transformer", f"{at.original}.1", f"{at.diffusers}.attentions.{j}", f"{at.ours}.transformer")


def key_map(config: UNetConfig, layout: Layout, semantic: NoSemantic | ClassSemantic | TextSemantic) -> KeyMap:
    """Build the whole layout of a model of this geometry and semantic condition."""
    names, has_context = _NAMES[layout], not (isinstance(semantic, NoSemantic) or semantic.route == "modulation")
    time_1, time_2, conv_in, norm_out, conv_out = (
        (theirs, f"denoiser.{ours}") for theirs, ours in zip(names.ends, _OURS.ends, strict=True)
    )
    moves = [*layers(dict([time_1, time_2, norm_out])), *_convolution(*conv_in), *_convolution(*conv_out)]
    for part in parts(config.geometry):
        there, here = part.original if layout == "original" else part.diffusers, f"denoiser.{part.ours}"
        match part.kind:
            case "residual":
                moves += _residual(there, here, names, part.skip)
            case "transformer":
                width = config.geometry.channels[_level_of(part, config.geometry)]
                moves += _transformer(there, here, config.transformer_depth, None if has_context else width)
            case _:
                moves += _convolution(there, here)
    if isinstance(semantic, ClassSemantic):
        if semantic.route == "modulation":
            moves.append(Same(names.class_table, CLASS_TABLE))
        elif layout == "original":
            moves.append(Same(CLASS_TOKENS, CLASS_TABLE))
    return KeyMap(moves)


def _level_of(part: Part, shape: UNetGeometry) -> int:
    side, number = part.ours.split(".")[:2]
    last = len(shape.channels) - 1
    return last if side == "middle" else int(number) if side == "down" else last - int(number)


def _convolution(theirs: str, ours: str, kernel: type[Same] = Kernel) -> list[Move]:
    return [kernel(f"{theirs}.weight", f"{ours}.weight"), Same(f"{theirs}.bias", f"{ours}.bias")]


def _residual(there: str, here: str, names: Names, skip: bool) -> list[Move]:
    norm_1, conv_1, modulation, norm_2, conv_2, shortcut = (
        (f"{there}.{theirs}", f"{here}.{ours}") for theirs, ours in zip(names.residual, _OURS.residual, strict=True)
    )
    moves = [*layers(dict([norm_1, modulation, norm_2])), *_convolution(*conv_1), *_convolution(*conv_2)]
    return [*moves, *_convolution(*shortcut, kernel=PointKernel)] if skip else moves


def _transformer(there: str, here: str, depth: int, silent_width: int | None) -> list[Move]:
    """`silent_width`: of a transformer without a context, whose cross-attention they hold and that must add nothing."""
    moves = layers({f"{there}.norm": f"{here}.norm"})
    for name in ("proj_in", "proj_out"):
        moves += _convolution(f"{there}.{name}", f"{here}.{name}", kernel=PointKernel)
    for i in range(depth):
        block, ours = f"{there}.transformer_blocks.{i}", f"{here}.blocks.{i}"
        moves += layers(
            {
                f"{block}.norm1": f"{ours}.norm_self",
                f"{block}.attn1.to_out.0": f"{ours}.self_attention.proj",
                f"{block}.norm3": f"{ours}.norm_mlp",
                f"{block}.ff.net.0.proj": f"{ours}.mlp.fc1",
                f"{block}.ff.net.2": f"{ours}.mlp.fc2",
            }
        )
        self_qkv = tuple(f"{block}.attn1.to_{name}.weight" for name in "qkv")
        moves.append(Stacked(self_qkv, f"{ours}.self_attention.qkv.weight"))
        if silent_width is not None:
            moves += _silent_cross_attention(block, silent_width)
            continue
        moves += layers({f"{block}.norm2": f"{ours}.norm_cross", f"{block}.attn2.to_out.0": f"{ours}.cross_attention.proj"})
        moves.append(Same(f"{block}.attn2.to_q.weight", f"{ours}.cross_attention.q.weight"))
        cross_kv = tuple(f"{block}.attn2.to_{name}.weight" for name in "kv")
        moves.append(Stacked(cross_kv, f"{ours}.cross_attention.kv.weight"))
    return moves


def _silent_cross_attention(block: str, width: int) -> list[Move]:
    """Zero everywhere, for a context of width 1."""
    shapes: dict[str, tuple[int, ...]] = {"norm2.weight": (width,), "norm2.bias": (width,), "attn2.to_out.0.bias": (width,)}
    shapes |= {f"attn2.{name}.weight": (width, width) for name in ("to_q", "to_out.0")}
    shapes |= {f"attn2.{name}.weight": (width, 1) for name in ("to_k", "to_v")}
    return [Computed(f"{block}.{name}", torch.zeros(shape)) for name, shape in shapes.items()]


class UNetFamily(Family):
    """LDM-4-G and other UNets of latent diffusion with transformers; classes as tokens, null class last in the table."""

    recipe = "imagenet256-unet-ldm4g"

    def tensors(self, file: WeightFile) -> State:
        """Return the tensors of the network, and the class tokens that the original file keeps beside it."""
        if file.is_diffusers or not any(name.startswith(BUNDLE) for name in file.state):
            return file.state
        inside = {name.removeprefix(BUNDLE): tensor for name, tensor in file.state.items() if name.startswith(BUNDLE)}
        return inside | {name: file.state[name] for name in (CLASS_TOKENS,) if name in file.state}

    def describe(self, file: WeightFile, state: State) -> Description:
        """Read the geometry from the shapes (unet_geometry.py); see `Family.describe`."""
        return described(file, state)

    def key_map(self, spec: ModelSpec, layout: Layout) -> KeyMap:
        """Return where each tensor of a UNet lies in a file; see `Family.key_map`."""
        return key_map(_config(spec), layout, spec.conditioning.semantic)

    def peer(self, spec: ModelSpec) -> nn.Module:
        """Build diffusers' `UNet2DConditionModel`; see `Family.peer`."""
        refuse_controls(spec)
        config, semantic = _config(spec), spec.conditioning.semantic
        if not isinstance(semantic, NoSemantic | ClassSemantic) and semantic.route != "context":
            raise ConfigError("diffusers' UNet cannot hold a pooled text vector", fix="sample from the run folder")
        shape = config.geometry
        if shape.channels[0] != shape.model_channels:
            raise ConfigError(
                "diffusers' UNet starts with the channels of its first level", needed="multipliers that begin with 1"
            )
        levels = range(len(shape.channels))
        kinds = ["CrossAttn" if shape.attends(level) else "" for level in levels]
        by_time = isinstance(semantic, ClassSemantic) and semantic.route == "modulation"
        network: nn.Module = need("diffusers", extra="autoencoders").UNet2DConditionModel(
            sample_size=max(spec.facts.latent_size),
            in_channels=spec.facts.channels,
            out_channels=spec.output_channels,
            down_block_types=tuple(f"{kind}DownBlock2D" for kind in kinds),
            up_block_types=tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)),
            block_out_channels=shape.channels,
            layers_per_block=shape.blocks_per_level,
            norm_num_groups=shape.groups,
            cross_attention_dim=spec.context_dim or 1,
            transformer_layers_per_block=config.transformer_depth,
            attention_head_dim=tuple(max(1, shape.heads_of(level)) for level in levels),  # their name; it is a number of heads
            resnet_time_scale_shift="scale_shift" if config.adaptive_norm == "scale_shift" else "default",
            num_class_embeds=len(spec.facts.class_names) + 1 if by_time else None,
        )
        return network

    def notes(self, spec: ModelSpec) -> str:
        """Explain the context that the exported network takes; see `Family.notes`."""
        semantic = spec.conditioning.semantic
        if isinstance(semantic, NoSemantic) or semantic.route == "modulation":
            return "The model has no context: give zeros [B, 1, 1] as encoder_hidden_states, which its zero weights ignore.\n"
        if isinstance(semantic, ClassSemantic):
            return "encoder_hidden_states [B, 1, D] is each picture's row of the class table; the last row is the null class.\n"
        return "encoder_hidden_states are the tokens after padding.\n"


def _config(spec: ModelSpec) -> UNetConfig:
    assert isinstance(spec.denoiser, UNetConfig)
    return spec.denoiser
