"""PixArt's layouts undo themselves to the bit, name every tensor of the published files, and refuse what cannot be PixArt."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import PixArtTransformer2DModel
from torch import Tensor

from open_ldm.conditioning import ConditioningConfig
from open_ldm.core.errors import CheckpointError
from open_ldm.denoisers import PixArtConfig, Slots, build_denoiser
from open_ldm.denoisers.blocks.positions import GridPositions, StoredPositions
from open_ldm.model.published import pixart
from tests.denoisers.pixart_reference import CAPTION, LENGTH, random_file
from tests.helpers import randn, small_model

DEPTH, WIDTH, HEADS, SIDE = 2, 48, 4, 8
POSITIONS = GridPositions(base=2.0 * SIDE)
CONFIG = PixArtConfig(size="XS", depth=DEPTH, width=WIDTH, heads=HEADS, positions=POSITIONS)


def published(multi_scale: bool) -> dict[str, Tensor]:
    """A random file in the original layout."""
    return random_file(DEPTH, WIDTH, SIDE, 0.5, multi_scale)


def table(side: int, lewei_scale: float, width: int = WIDTH) -> Tensor:
    """[1, T, D] as numpy gives it: coordinates in float32, sines and cosines in float64, rounded to float32."""
    places = np.arange(side, dtype=np.float32) / (side / SIDE) / lewei_scale
    frequencies = 1.0 / 10000 ** (np.arange(width // 4, dtype=np.float64) / (width / 4))
    angles = np.outer(places, frequencies)
    axis = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    columns, rows = np.tile(axis, (side, 1)), np.repeat(axis, side, axis=0)
    return torch.from_numpy(np.concatenate([columns, rows], axis=1)).float().unsqueeze(0)


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("multi_scale", [False, True])
def test_the_original_layout_and_back_is_bit_equal(multi_scale: bool, dtype: torch.dtype) -> None:
    theirs = {name: tensor if name == "pos_embed" else tensor.to(dtype) for name, tensor in published(multi_scale).items()}
    keys = pixart.original(CONFIG, 4, (SIDE, SIDE), multi_scale=multi_scale)
    assert_same(keys.write(keys.read(theirs)), theirs)
    assert pixart.is_original(theirs) and pixart.is_multi_scale(theirs) == multi_scale


@pytest.mark.parametrize("null_tokens", [False, True])
@pytest.mark.parametrize("multi_scale", [False, True])
def test_the_diffusers_layout_and_back_is_bit_equal(multi_scale: bool, null_tokens: bool) -> None:
    theirs = PixArtTransformer2DModel(
        num_attention_heads=HEADS,
        attention_head_dim=WIDTH // HEADS,
        num_layers=DEPTH,
        cross_attention_dim=WIDTH,
        sample_size=2 * SIDE,
        use_additional_conditions=multi_scale,
        caption_channels=CAPTION,
    ).state_dict()
    if null_tokens:
        theirs["caption_projection.y_embedding"] = randn(LENGTH, CAPTION)
    keys = pixart.diffusers(CONFIG, 4, multi_scale=multi_scale, null_tokens=null_tokens)
    assert_same(keys.write(keys.read(theirs)), theirs)
    assert not pixart.is_original(theirs) and pixart.is_multi_scale(theirs) == multi_scale


@pytest.mark.parametrize("multi_scale", [False, True])
def test_ours_are_the_tensors_of_a_model(multi_scale: bool) -> None:
    ours = pixart.original(CONFIG, 4, (SIDE, SIDE), multi_scale=multi_scale).read(published(multi_scale))
    with torch.device("meta"):
        denoiser = build_denoiser(CONFIG, Slots(4, CAPTION, learned_variance=True))
    shapes = {f"denoiser.{name}": tensor.shape for name, tensor in denoiser.state_dict().items()}
    conditioning = ConditioningConfig(controls=pixart.CONTROLS if multi_scale else ())
    model = small_model(CONFIG, conditioning, channels=4)
    shapes |= {f"conditioning.{name}": tensor.shape for name, tensor in model.conditioning.state_dict().items()}
    assert {name: tensor.shape for name, tensor in ours.items()} == shapes | {pixart.NULL_TOKENS: (LENGTH, CAPTION)}


def test_the_layouts_mean_the_same() -> None:
    theirs = published(multi_scale=True)
    ours = pixart.original(CONFIG, 4, (SIDE, SIDE), multi_scale=True).read(theirs)
    other = pixart.diffusers(CONFIG, 4, multi_scale=True, null_tokens=True).write(ours)
    pairs = {
        "csize_embedder.mlp.0.weight": "adaln_single.emb.resolution_embedder.linear_1.weight",
        "csize_embedder.mlp.2.bias": "adaln_single.emb.resolution_embedder.linear_2.bias",
        "ar_embedder.mlp.2.weight": "adaln_single.emb.aspect_ratio_embedder.linear_2.weight",
        "t_embedder.mlp.2.weight": "adaln_single.emb.timestep_embedder.linear_2.weight",
        "t_block.1.weight": "adaln_single.linear.weight",
        "y_embedder.y_proj.fc1.weight": "caption_projection.linear_1.weight",
        "y_embedder.y_embedding": "caption_projection.y_embedding",
        "blocks.1.cross_attn.proj.weight": "transformer_blocks.1.attn2.to_out.0.weight",
        "blocks.1.attn.proj.bias": "transformer_blocks.1.attn1.to_out.0.bias",
        "blocks.0.scale_shift_table": "transformer_blocks.0.scale_shift_table",
        "final_layer.scale_shift_table": "scale_shift_table",
    }
    for one, name in pairs.items():
        assert torch.equal(theirs[one], other[name]), one
    assert torch.equal(theirs["blocks.1.cross_attn.kv_linear.weight"][WIDTH:], other["transformer_blocks.1.attn2.to_v.weight"])
    assert torch.equal(theirs["blocks.1.attn.qkv.bias"][WIDTH : 2 * WIDTH], other["transformer_blocks.1.attn1.to_k.bias"])


@pytest.mark.parametrize("part", ["hidden.weight", "hidden.bias", "out.weight", "out.bias"])
@pytest.mark.parametrize(("control", "row"), [("original_size", -1), ("original_size", WIDTH // 3), ("aspect_ratio", 0)])
def test_controls_that_were_trained_on_are_refused(control: str, row: int, part: str) -> None:
    keys = pixart.original(CONFIG, 4, (SIDE, SIDE), multi_scale=True)
    ours = keys.read(published(multi_scale=True))
    name = f"conditioning.controls.{control}.{part}"
    ours[name] = ours[name].clone()
    ours[name][row] += 1e-6
    with pytest.raises(CheckpointError, match=f"the control {control} does not fit"):
        keys.write(ours)


@pytest.mark.parametrize("lewei_scale", pixart.LEWEI_SCALES)
@pytest.mark.parametrize("width", [WIDTH, 1152])
def test_the_formula_behind_a_stored_table_is_found(lewei_scale: float, width: int) -> None:
    found = pixart.positions_in({"pos_embed": table(SIDE, lewei_scale, width)}, SIDE)
    assert found == pixart.positions_for(SIDE, lewei_scale)
    assert pixart.positions_in({"pos_embed": randn(1, SIDE**2, width)}, SIDE) == StoredPositions(rows=SIDE, columns=SIDE)


def test_a_table_the_network_does_not_use_is_named_not_dropped() -> None:
    theirs = published(multi_scale=False) | {"pos_embed": table(SIDE, 1.0)}
    with pytest.raises(CheckpointError, match="pos_embed is not the table"):
        pixart.original(CONFIG, 4, (SIDE, SIDE), multi_scale=False).read(theirs)
    stored = pixart.positions_in(theirs, SIDE)
    assert isinstance(stored, GridPositions)
    keys = pixart.original(CONFIG, 4, (SIDE, SIDE), multi_scale=False, stored=stored)
    assert_same(keys.write(keys.read(theirs)), theirs)
