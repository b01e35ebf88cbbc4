"""What the shapes of a published UNet file, or a diffusers config, say of its geometry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from open_ldm.core.errors import CheckpointError
from open_ldm.interop.family import Description, Settings, count_blocks, shape_of
from open_ldm.interop.files import WeightFile
from open_ldm.interop.keymap import State

HEADS: dict[tuple[int, tuple[int, ...], int], Settings] = {
    (192, (1, 2, 3, 5), 512): {"denoiser.heads": 1},  # LDM-4-G
    (256, (1, 2, 4), 512): {"denoiser.head_dim": 32},  # LDM-8
    (256, (1, 2, 4), 1024): {"denoiser.head_dim": 64},  # generative-models, imagenet-f8_cond
    (320, (1, 2, 4, 4), 1280): {"denoiser.heads": 8},  # txt2img 1p4B
    (320, (1, 2, 4, 4), 768): {"denoiser.heads": 8},  # Stable Diffusion 1
}
"""(model channels, multipliers, context width) of published models -> heads, which do not show in shapes."""

VQ_F4: Settings = {"autoencoder.factor": 4, "data.transform.size_px": 256, "latent_stats.scale": 1.0}
"""LDM-4-G's own latents: 3 channels at a quarter of the resolution, before quantisation, not scaled."""

_ALWAYS: dict[str, Any] = {
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "only_cross_attention": False,
    "center_input_sample": False,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "downsample_padding": 1,
    "mid_block_scale_factor": 1,
    "act_fn": "silu",
    "norm_eps": 1e-5,
    "encoder_hid_dim": None,
    "dual_cross_attention": False,
    "use_linear_projection": False,
    "class_embed_type": None,
    "addition_embed_type": None,
    "resnet_skip_time_act": False,
    "resnet_out_scale_factor": 1.0,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "time_embedding_act_fn": None,
    "timestep_post_act": None,
    "time_cond_proj_dim": None,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "attention_type": "default",
    "class_embeddings_concat": False,
    "mid_block_only_cross_attention": None,
    "cross_attention_norm": None,
}
"""Settings of diffusers' UNet2DConditionModel that this architecture fixes."""


TABLES = {
    "cond_stage_model.embedding.weight": "context",  # the original file's class tokens, [1001, 512] in LDM-4-G
    "conditioning.semantic.table.weight": "context",  # ours, beside an exported diffusers folder
    "label_emb.weight": "modulation",
    "class_embedding.weight": "modulation",
}
"""Where a file keeps a class table, and the slot it fills."""


def described(file: WeightFile, state: State) -> Description:
    """Describe a UNet: settings, latent side and number of classes. Raises CheckpointError for one of another kind."""
    settings = _of_config(file.config) if file.is_diffusers else _of_shapes(state)
    kernel, out = ("conv_in", "conv_out") if file.is_diffusers else ("input_blocks.0.0", "out.2")
    channels, outputs = shape_of(state, f"{kernel}.weight")[1], shape_of(state, f"{out}.weight")[0]
    settings |= {"autoencoder.channels": channels, "process.learned_variance": outputs == 2 * channels}
    side = int(file.config.get("sample_size") or (64 if channels == 3 else 32))
    if (channels, side) == (3, 64):
        settings |= VQ_F4
    semantic, classes = _semantic(state)
    return Description(settings | semantic, side, classes)


def _of_shapes(state: State) -> Settings:
    """Geometry of an original file: block by block down to the middle."""
    widths: list[list[int]] = [[]]
    factors = []
    for number in range(1, count_blocks(state, "input_blocks")):
        block = f"input_blocks.{number}"
        if f"{block}.0.op.weight" in state:
            widths.append([])
            continue
        widths[-1].append(shape_of(state, f"{block}.0.in_layers.2.weight")[0])
        if f"{block}.1.norm.weight" in state:
            factors.append(2 ** (len(widths) - 1))
    if any(len(level) != len(widths[0]) or len(set(level)) != 1 for level in widths):
        raise CheckpointError(f"the UNet's levels have blocks of {widths} channels", needed="as many of one width in each")
    middle = "middle_block.1.transformer_blocks"
    return _settings(
        shape_of(state, "input_blocks.0.0.weight")[0],
        [level[0] for level in widths],
        len(widths[0]),
        sorted(set(factors)),
        count_blocks(state, middle),
        scale_shift=shape_of(state, "middle_block.0.emb_layers.1.weight")[0] == 2 * widths[-1][0],
        context=shape_of(state, f"{middle}.0.attn2.to_k.weight")[1],
    )


def _of_config(config: Mapping[str, Any]) -> Settings:
    """Geometry of a UNet2DConditionModel."""
    for name, wanted in _ALWAYS.items():
        if config.get(name, wanted) != wanted:
            raise CheckpointError(f"the UNet has {name}={config[name]!r}", needed=f"{wanted!r}, as latent diffusion's UNet")
    widths = list(config["block_out_channels"])
    attends = ["CrossAttn" in kind for kind in config["down_block_types"]]
    if attends != ["CrossAttn" in kind for kind in reversed(config["up_block_types"])]:
        raise CheckpointError("the UNet attends at other levels going up than going down", needed="the same levels")
    settings = _settings(
        widths[0],
        widths,
        _one(config, "layers_per_block", 2),
        [2**level for level, attending in enumerate(attends) if attending],
        _one(config, "transformer_layers_per_block", 1),
        scale_shift=config.get("resnet_time_scale_shift", "default") == "scale_shift",
        context=None,
    )
    attending = [level for level in range(len(widths)) if attends[level] or level == len(widths) - 1]
    given = config.get("attention_head_dim", 8)  # a number of heads, whatever its name says
    heads = [given[level] if isinstance(given, Sequence) else given for level in attending]
    sizes = [widths[level] / count for level, count in zip(attending, heads, strict=True)]
    if len(set(heads)) == 1:
        settings["denoiser.heads"] = heads[0]
    elif len(set(sizes)) == 1:
        settings["denoiser.head_dim"] = int(sizes[0])
    else:
        raise CheckpointError(f"the UNet has {heads} heads", needed="as many in every level, or all of one width")
    return settings | {"denoiser.groups": config.get("norm_num_groups", 32)}


def _one(config: Mapping[str, Any], name: str, default: int) -> int:
    value = config.get(name, default)
    each = set(value) if isinstance(value, Sequence) else {value}
    if len(each) != 1:
        raise CheckpointError(f"the UNet has {name}={value}", needed="one number for all levels")
    return int(each.pop())


def _settings(
    base: int,
    widths: Sequence[int],
    blocks: int,
    factors: Sequence[int],
    depth: int,
    *,
    scale_shift: bool,
    context: int | None,
) -> Settings:
    """`context`: width of the context, which decides heads that are not known; None where they are."""
    if odd := [width for width in widths if width % base]:
        raise CheckpointError(f"a level has {odd[0]} channels", needed=f"a multiple of the first convolution's {base}")
    multipliers = tuple(width // base for width in widths)
    settings: Settings = {
        "denoiser.model_channels": base,
        "denoiser.multipliers": multipliers,
        "denoiser.blocks_per_level": blocks,
        "denoiser.attention_factors": tuple(factors),
        "denoiser.transformer_depth": depth,
        "denoiser.adaptive_norm": "scale_shift" if scale_shift else "shift",
    }
    return settings if context is None else settings | HEADS.get((base, multipliers, context), {})


def _semantic(state: State) -> tuple[Settings, int]:
    """The class condition, and the number of classes without the null class; nothing where the file holds no class table."""
    for name, route in TABLES.items():
        if name in state:
            rows, width = shape_of(state, name)
            semantic = {"kind": "class", "route": route} | ({"width": width} if route == "context" else {})
            return {"conditioning.semantic": semantic}, rows - 1
    return {}, 0
