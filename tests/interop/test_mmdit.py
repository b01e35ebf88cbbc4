"""Stable Diffusion 3's layouts: a file of random numbers comes back to the bit, and gives diffusers' numbers on the way."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from open_ldm.conditioning import ConditioningConfig, Conditions
from open_ldm.conditioning.semantic import ClassSemantic, TextSemantic
from open_ldm.controls import Flip, ViewShape
from open_ldm.core.config import validate
from open_ldm.core.errors import ConfigError
from open_ldm.denoisers import MMDiTConfig
from open_ldm.denoisers.blocks.positions import GridPositions
from open_ldm.interop.files import WeightFile
from open_ldm.interop.mmdit import MMDiTFamily, original
from open_ldm.model.diffusion import DiffusionModel, build_model
from open_ldm.model.spec import DataFacts, ModelSpec, ProcessConfig
from open_ldm.text import HuggingFaceConfig
from tests.helpers import CLASSES, VIEW, randn, randomise, relative, rounding_floor
from tests.interop.layouts import original_sd3

DEPTH, WIDTH, CHANNELS, CONTEXT, POOLED, SIDE = 2, 128, 6, 20, 12, 6
FAMILY = MMDiTFamily()
TEXT = {"path": "none", "length": 7, "width": CONTEXT, "pooled": "projected", "pooled_width": POOLED}


def text() -> ConditioningConfig:
    encoder = validate(HuggingFaceConfig, {"models": [[TEXT]]}, source="test")
    return ConditioningConfig(semantic=TextSemantic(encoder=encoder, route="both", null_kind="zeros", padding="encoder"))


def facts(*latent_size: int) -> DataFacts:
    return DataFacts(CHANNELS, ViewShape(8, 8, 8), latent_size=(latent_size[0], latent_size[1]))


def same(ours: Tensor, theirs: nn.Module, x: Tensor, time: Tensor, context: Tensor, pooled: Tensor) -> None:
    """Random weights without norms of q and k make attention sharp: the float32 of either is off by 1e-5, with them by 5e-7."""
    given = {"encoder_hidden_states": context, "pooled_projections": pooled, "timestep": time}
    wanted, floor = rounding_floor(theirs, x, **given)
    assert relative(ours.double(), wanted) < 8 * floor and floor < 1e-4 and float(wanted.abs().max()) > 0.1


@pytest.mark.parametrize("rms", [False, True])
def test_an_original_file_comes_back_to_the_bit(rms: bool) -> None:
    state = original_sd3(DEPTH, WIDTH, CHANNELS, CONTEXT, POOLED, SIDE, rms)
    file = WeightFile(Path("sd3.safetensors"), state, "")
    tensors = FAMILY.tensors(file)
    said = FAMILY.describe(file, tensors).settings
    names = ("depth", "width", "heads", "patch", "qk_norm", "positions")
    config = validate(MMDiTConfig, {name: said[f"denoiser.{name}"] for name in names}, source="test")
    assert config.geometry.heads == DEPTH and config.qk_norm == ("rms" if rms else "none")
    layout = original(config, CHANNELS, pooled=True)
    back = layout.write(layout.read(tensors))
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensors[name]) for name in back)


@pytest.mark.parametrize("rms", [False, True])
def test_an_original_file_gives_what_diffusers_gives(rms: bool) -> None:
    state = original_sd3(DEPTH, WIDTH, CHANNELS, CONTEXT, POOLED, SIDE, rms)
    file = WeightFile(Path("sd3.safetensors"), state, "")
    tensors = FAMILY.tensors(file)
    said = FAMILY.describe(file, tensors).settings
    names = ("depth", "width", "heads", "patch", "qk_norm", "positions")
    config = validate(MMDiTConfig, {name: said[f"denoiser.{name}"] for name in names}, source="test")
    model = build_model(ModelSpec(ProcessConfig(), text(), config, facts(12, 12)), seed=0)
    model.load_state_dict(original(config, CHANNELS, pooled=True).read(tensors))
    described = ModelSpec(ProcessConfig(), text(), config, facts(12, 12))
    theirs = FAMILY.peer(described).eval()
    theirs.load_state_dict(FAMILY.key_map(described, "diffusers").write(model.state_dict()))
    x, context, pooled, time = (
        randn(2, CHANNELS, 6, 10),
        randn(2, 7, CONTEXT, seed=1),
        randn(2, POOLED, seed=2),
        torch.tensor([3.0, 990.0]),
    )
    vector = model.conditioning.get_submodule("semantic.pooled")(pooled)
    ours = model.denoiser(x, time, Conditions(vector, context)).mean
    same(ours, theirs, x, time, context, pooled)


def exported(model: DiffusionModel, described: ModelSpec) -> torch.nn.Module:
    written, ours = FAMILY.for_export(described, model.state_dict())
    theirs = FAMILY.peer(written).eval()
    theirs.load_state_dict(FAMILY.key_map(written, "diffusers").write(ours))
    return theirs


@pytest.mark.parametrize("base", [None, 5.0])
def test_a_class_model_of_ours_is_exported_with_its_positions_in_a_square(base: float | None) -> None:
    config = MMDiTConfig(size="XS", depth=2, width=64, heads=2, positions=GridPositions(base=base))
    conditioning = ConditioningConfig(semantic=ClassSemantic(route="context"))
    known = DataFacts(CHANNELS, VIEW, CLASSES, latent_size=(6, 10))
    model: DiffusionModel = randomise(build_model(ModelSpec(ProcessConfig(), conditioning, config, known), seed=0))
    theirs = exported(model, ModelSpec(ProcessConfig(), conditioning, config, known))
    x, time = randn(2, CHANNELS, 6, 10), torch.tensor([3.0, 990.0])
    tokens = model.conditioning.get_parameter("semantic.table.weight")[[0, 2]].unsqueeze(1)
    ours = model.denoiser(x, time, Conditions(torch.zeros(2, 64), tokens)).mean
    same(ours, theirs, x, time, tokens, torch.zeros(2, 1))


@pytest.mark.parametrize(
    ("conditioning", "said"),
    [
        (ConditioningConfig(semantic=ClassSemantic(), controls=(Flip(),)), "control conditions flip"),
        (ConditioningConfig(semantic=ClassSemantic(route="modulation")), "context"),
        (ConditioningConfig(), "context"),
    ],
)
def test_what_diffusers_cannot_hold_is_refused_by_name(conditioning: ConditioningConfig, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        FAMILY.peer(ModelSpec(ProcessConfig(), conditioning, MMDiTConfig(size="XS"), facts(8, 8)))
