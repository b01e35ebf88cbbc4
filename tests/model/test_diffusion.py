from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from open_ldm.conditioning import ConditioningConfig
from open_ldm.conditioning.semantic import ClassSemantic, TextSemantic
from open_ldm.controls import AspectRatio, Crop, Flip, OriginalSize
from open_ldm.model.diffusion import build_model
from open_ldm.model.spec import DataFacts, ModelSpec, ProcessConfig
from open_ldm.process.schedules import LinearSchedule
from tests.helpers import CLASSES, DENOISERS, SMALL_DIT, SMALL_WORDS, VIEW, WORDS, inputs_for, randn, small_model

FACTS = DataFacts(3, VIEW, CLASSES, WORDS)
CONTROLS = (OriginalSize(), Crop(), Flip(), AspectRatio())
SEMANTICS = {
    "none": {},
    "class_modulation": {"semantic": ClassSemantic(route="modulation")},
    "class_context": {"semantic": ClassSemantic(route="context")},
    "text_context": {"semantic": TextSemantic(encoder=SMALL_WORDS)},
    "text_modulation": {"semantic": TextSemantic(encoder=SMALL_WORDS, route="modulation")},
    "text_both_mask": {"semantic": TextSemantic(encoder=SMALL_WORDS, route="both", padding="mask")},
}


@pytest.mark.parametrize("semantic", SEMANTICS)
@pytest.mark.parametrize("name", DENOISERS)
@pytest.mark.parametrize("learned_variance", [False, True])
def test_every_denoiser_takes_every_condition(name: str, semantic: str, learned_variance: bool) -> None:
    config = ConditioningConfig(controls=CONTROLS, **SEMANTICS[semantic])
    process = ProcessConfig(schedule=LinearSchedule(), prediction="eps", learned_variance=learned_variance)
    model = small_model(DENOISERS[name], config, process)
    x, t = randn(3, 3, 8, 8), torch.tensor([0.0, 0.5, 1.0])
    denoised = model.denoise(x, t, inputs_for(config, 3))
    assert denoised.x_0.shape == x.shape
    assert bool(torch.isfinite(denoised.x_0).all())
    assert (denoised.variance_fraction is not None) == learned_variance
    dropped = model.denoise(x, t, inputs_for(config, 3, keep_semantic=torch.zeros(3, dtype=torch.bool)))
    assert torch.allclose(dropped.x_0, denoised.x_0) == (semantic == "none")


def test_facts_survive_json() -> None:
    assert DataFacts.from_json(json.loads(json.dumps(FACTS.to_json()))) == FACTS


def build(seed: int) -> Any:
    return build_model(ModelSpec(ProcessConfig(), ConditioningConfig(semantic=ClassSemantic()), SMALL_DIT, FACTS), seed)


def test_initial_weights_are_a_function_of_the_seed_and_leave_torch_alone() -> None:
    torch.manual_seed(11)
    expected = torch.randn(3)
    torch.manual_seed(11)
    first = build(4).state_dict()
    assert torch.equal(torch.randn(3), expected)
    torch.manual_seed(99)
    again, other = build(4).state_dict(), build(5).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_compute_in_sets_the_products_dtype_and_keeps_the_parameters() -> None:
    model = build(4).compute_in(torch.bfloat16)
    assert model.denoiser.compute_dtype == torch.bfloat16
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
