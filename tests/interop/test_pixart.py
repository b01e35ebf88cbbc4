"""PixArt's layouts: random files come back to the bit, say what model they are of, and what cannot be PixArt is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import PixArtTransformer2DModel
from torch import Tensor

from open_ldm.conditioning import ConditioningConfig
from open_ldm.conditioning.semantic import ClassSemantic, TextSemantic
from open_ldm.controls import Flip
from open_ldm.core.errors import CheckpointError, ConfigError
from open_ldm.denoisers import PixArtConfig
from open_ldm.denoisers.blocks.positions import GridPositions, StoredPositions
from open_ldm.interop import pixart
from open_ldm.interop.files import WeightFile
from open_ldm.interop.keymap import KeyMap
from open_ldm.model.diffusion import DiffusionModel
from open_ldm.model.spec import DataFacts, ModelSpec, ProcessConfig
from tests.helpers import CLASSES, VIEW, randn
from tests.interop.layouts import original_pixart

DEPTH, WIDTH, HEADS, CAPTION, LENGTH, SIDE = 2, 48, 4, 20, 6, 8
CONFIG = PixArtConfig(size="XS", depth=DEPTH, width=WIDTH, heads=HEADS, positions=GridPositions(base=2.0 * SIDE))
FAMILY = pixart.PixArtFamily()
MULTI_SCALE = pytest.mark.parametrize("multi_scale", [False, True])


def published(multi_scale: bool) -> dict[str, Tensor]:
    return original_pixart(DEPTH, WIDTH, CAPTION, LENGTH, multi_scale) | {"pos_embed": table(SIDE, 0.5)}


def theirs_in_diffusers(multi_scale: bool) -> dict[str, Tensor]:
    """A folder's tensors, with null tokens as released folders have them."""
    network = PixArtTransformer2DModel(
        num_attention_heads=HEADS,
        attention_head_dim=WIDTH // HEADS,
        num_layers=DEPTH,
        cross_attention_dim=WIDTH,
        sample_size=2 * SIDE,
        use_additional_conditions=multi_scale,
        caption_channels=CAPTION,
    )
    return network.state_dict() | {"caption_projection.y_embedding": randn(LENGTH, CAPTION)}


def original(multi_scale: bool) -> KeyMap:
    return pixart.original(CONFIG, 4, (SIDE, SIDE), null_tokens=True, multi_scale=multi_scale)


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
@MULTI_SCALE
def test_the_original_layout_and_back_is_bit_equal(multi_scale: bool, dtype: torch.dtype) -> None:
    theirs = {name: tensor if name == "pos_embed" else tensor.to(dtype) for name, tensor in published(multi_scale).items()}
    keys = original(multi_scale)
    assert_same(keys.write(keys.read(theirs)), theirs)


@MULTI_SCALE
def test_a_table_that_no_formula_gives_comes_back_too(multi_scale: bool) -> None:
    theirs = published(multi_scale) | {"pos_embed": randn(1, SIDE**2, WIDTH)}
    config = CONFIG.model_copy(update={"positions": pixart.find_positions(theirs["pos_embed"])})
    assert config.positions == StoredPositions(rows=SIDE, columns=SIDE)
    keys = pixart.original(config, 4, (SIDE, SIDE), null_tokens=True, multi_scale=multi_scale)
    assert_same(keys.write(keys.read(theirs)), theirs)


@MULTI_SCALE
def test_the_diffusers_layout_and_back_is_bit_equal(multi_scale: bool) -> None:
    theirs = theirs_in_diffusers(multi_scale)
    keys = pixart.diffusers(CONFIG, 4, null_tokens=True, multi_scale=multi_scale)
    assert_same(keys.write(keys.read(theirs)), theirs)


def test_the_layouts_mean_the_same() -> None:
    theirs = published(multi_scale=True)
    other = pixart.diffusers(CONFIG, 4, null_tokens=True, multi_scale=True).write(original(multi_scale=True).read(theirs))
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
    keys = original(multi_scale=True)
    ours = keys.read(published(multi_scale=True))
    name = f"conditioning.controls.{control}.{part}"
    ours[name] = ours[name].clone()
    ours[name][row] += 1e-6
    with pytest.raises(CheckpointError, match=f"the control {control} does not fit"):
        keys.write(ours)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("lewei_scale", pixart.LEWEI_SCALES)
@pytest.mark.parametrize("width", [WIDTH, 1152])
def test_the_formula_behind_a_stored_table_is_found(lewei_scale: float, width: int, dtype: torch.dtype) -> None:
    assert pixart.find_positions(table(SIDE, lewei_scale, width).to(dtype)) == pixart.positions_for(SIDE, lewei_scale)


def test_the_released_sizes_share_one_grid() -> None:
    sides = {256: 16, 512: 32, 1024: 64}
    positions = [pixart.positions_for(sides[px], scale) for px, scale in zip(sides, pixart.LEWEI_SCALES, strict=True)]
    assert positions == [GridPositions(base=32)] * 3


@MULTI_SCALE
def test_an_original_file_says_what_it_is(multi_scale: bool) -> None:
    file = WeightFile(Path("pixart.pth"), published(multi_scale), "")
    state = FAMILY.tensors(file)
    assert set(file.state) - set(state) == {"pos_embed"}
    described = FAMILY.describe(file, state)
    assert (described.latent_side, described.classes) == (2 * SIDE, 0)
    encoder = "conditioning.semantic.encoder.models.0.0"
    wanted = {"denoiser.depth": DEPTH, "denoiser.width": WIDTH, f"{encoder}.width": CAPTION, f"{encoder}.length": LENGTH}
    wanted |= {"process.learned_variance": True, "denoiser.positions": GridPositions(base=2.0 * SIDE).model_dump()}
    assert wanted.items() <= described.settings.items()
    assert len(described.settings["conditioning.controls"]) == 2 * multi_scale


@pytest.mark.parametrize(("config", "base"), [({}, SIDE), ({"interpolation_scale": 0.5}, 2 * SIDE)])
def test_a_diffusers_folder_says_what_it_is(config: dict[str, float], base: int) -> None:
    said = {"sample_size": 2 * SIDE, "num_attention_heads": HEADS, **config}
    file = WeightFile(Path("folder"), theirs_in_diffusers(multi_scale=True), "", config=said)
    described = FAMILY.describe(file, FAMILY.tensors(file))
    assert described.settings["denoiser.heads"] == HEADS and described.latent_side == 2 * SIDE
    assert described.settings["denoiser.positions"] == GridPositions(base=base).model_dump()


def model_of(conditioning: ConditioningConfig, **geometry: Any) -> ModelSpec:
    config = CONFIG.model_copy(update=geometry)
    return ModelSpec(ProcessConfig(), conditioning, config, DataFacts(4, VIEW, CLASSES, latent_size=(8, 8)))


@pytest.mark.parametrize("width", [None, 20])
def test_a_class_model_of_ours_is_written_for_its_grid(width: int | None) -> None:
    conditioning = ConditioningConfig(semantic=ClassSemantic(route="context", width=width))
    parts = model_of(conditioning, positions=GridPositions())
    model = DiffusionModel(parts)
    written, ours = FAMILY.for_export(parts, model.state_dict())
    theirs = FAMILY.peer(written)
    theirs.load_state_dict(FAMILY.key_map(written, "diffusers").write(ours))
    assert (theirs.config.interpolation_scale, theirs.config.caption_channels) == (1.0, width or WIDTH)
    wanted = model.denoiser.positions((4, 4), torch.device("cpu"))
    torch.testing.assert_close(theirs.pos_embed.pos_embed[0], wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("conditioning", "geometry", "said"),
    [
        (ConditioningConfig(semantic=ClassSemantic(), controls=(Flip(),)), {}, "control conditions flip"),
        (ConditioningConfig(semantic=ClassSemantic(route="modulation")), {}, "context tokens"),
        (ConditioningConfig(semantic=TextSemantic(route="both")), {}, "context tokens"),
        (ConditioningConfig(), {}, "context tokens"),
        (ConditioningConfig(semantic=ClassSemantic()), {"positions": StoredPositions(rows=8, columns=8)}, "position table"),
    ],
)
def test_what_diffusers_cannot_hold_is_refused_by_name(
    conditioning: ConditioningConfig, geometry: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        FAMILY.peer(model_of(conditioning, **geometry))
