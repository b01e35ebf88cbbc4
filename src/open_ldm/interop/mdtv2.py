"""MDTv2's published layout: the original file (sail-sg/MDT). diffusers has no MDTv2.

Ours are the names of a `DiffusionModel` with the class in its modulation slot.
"""

from __future__ import annotations

import torch

from open_ldm.core.errors import ConfigError
from open_ldm.denoisers.blocks.relative_bias import token_pairs
from open_ldm.denoisers.mdtv2 import MDTv2Config
from open_ldm.interop.dit import CLASS_TABLE, GUIDED, block_pairs
from open_ldm.interop.family import (
    Description,
    Family,
    Layout,
    count_blocks,
    geometry,
    refuse_qk_norm,
    shape_of,
    square_side,
)
from open_ldm.interop.files import WeightFile
from open_ldm.interop.keymap import Computed, KeyMap, Move, Reshaped, Same, State, layers
from open_ldm.interop.tables import patch_move
from open_ldm.model.spec import ModelSpec


def original(config: MDTv2Config, channels: int, grid: tuple[int, int]) -> KeyMap:
    """Build the layout of mdt_xl2_v2_ckpt.pt for tables of `grid` tokens.

    Every attention holds its bias table and, as integers, the table row of each pair of tokens. Raises ConfigError for a model
    without the masked pass, which lacks half of it.
    """
    if config.mask_ratio is None:
        raise ConfigError("denoiser.mask_ratio=null leaves out the side block", needed="a mask_ratio, as the published network")
    width, tokens = config.geometry.width, grid[0] * grid[1]
    names = {"pos_embed": "denoiser.positions.values", "decoder_pos_embed": "denoiser.decoder_positions.values"}
    moves: list[Move] = [
        *(Reshaped(theirs, ours, (1, tokens, width), (tokens, width)) for theirs, ours in names.items()),
        Same("mask_token", "denoiser.side.mask_token"),
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
    index = token_pairs(grid, 0, torch.device("cpu")).rows[0]
    for theirs, ours in _blocks(config).items():
        pairs |= block_pairs(theirs, f"{ours}.body")
        if "out_blocks" in ours or "decoder_blocks" in ours:
            pairs[f"{theirs}.skip_linear"] = f"{ours}.join"
        bias = f"{theirs}.attn.rel_pos_bias"
        moves.append(Same(f"{bias}.relative_position_bias_table", f"{ours}.bias.table.values"))
        moves.append(Computed(f"{bias}.relative_position_index", index))
    return KeyMap([*moves, *layers(pairs)])


def _blocks(config: MDTv2Config) -> dict[str, str]:
    """Every block, their name -> ours."""
    groups = {
        "en_inblocks": ("in_blocks", config.half_depth),
        "en_outblocks": ("out_blocks", config.half_depth),
        "de_blocks": ("decoder_blocks", config.decoder_depth),
    }
    blocks = {f"{theirs}.{i}": f"denoiser.{ours}.{i}" for theirs, (ours, count) in groups.items() for i in range(count)}
    return blocks | {"sideblocks.0": "denoiser.side.block"}


class MDTv2Family(Family):
    """MDTv2-{S,B,L,XL}/p, class-conditional, as released; null class last in the table."""

    recipe = "imagenet256-mdtv2-xl2"

    def describe(self, file: WeightFile, state: State) -> Description:
        """Read the geometry, the decoder and the classes from the shapes; see `Family.describe`."""
        width, channels, patch, _ = shape_of(state, "x_embedder.proj.weight")
        heads = shape_of(state, "sideblocks.0.attn.rel_pos_bias.relative_position_bias_table")[1]
        decoder = count_blocks(state, "de_blocks")
        settings = geometry(width, 2 * count_blocks(state, "en_inblocks") + decoder, heads)
        settings |= {"denoiser.decode_layers": decoder, "denoiser.patch": patch, "autoencoder.channels": channels}
        settings["process.learned_variance"] = shape_of(state, "final_layer.linear.weight")[0] == 2 * channels * patch**2
        settings["sampling.guidance.channels"] = GUIDED if channels > GUIDED else None
        side = square_side(shape_of(state, "pos_embed")[1], "pos_embed") * patch
        return Description(settings, side, shape_of(state, "y_embedder.embedding_table.weight")[0] - 1)

    def key_map(self, spec: ModelSpec, layout: Layout) -> KeyMap:
        """Return where each tensor of an MDTv2 lies in a file. Raises ConfigError for diffusers, which has no MDTv2."""
        if layout == "diffusers":
            self.peer(spec)  # raises: diffusers has none
        assert isinstance(spec.denoiser, MDTv2Config)
        refuse_qk_norm(spec.denoiser)
        height, width = spec.facts.latent_size
        patch = spec.denoiser.patch
        return original(spec.denoiser, spec.facts.channels, (height // patch, width // patch))
