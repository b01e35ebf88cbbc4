"""A negative prompt stands where guidance otherwise has no caption."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from open_ldm.autoencoders import LatentStats
from open_ldm.autoencoders.identity import IdentityAutoencoder
from open_ldm.conditioning import ConditioningConfig, ConditionInputs
from open_ldm.conditioning.semantic import TextSemantic
from open_ldm.controls import Flip
from open_ldm.sampling.generate import Generator, SamplingConfig
from open_ldm.sampling.guidance import CONDITIONAL, SEMANTIC_ONLY, UNCONDITIONAL
from tests.helpers import SMALL_MMDIT, SMALL_WORDS, inputs_for, randn, small_model, text_of

STATS = LatentStats(mean=(0.1, 0.0, -0.1), std=(0.5, 0.6, 0.7))
NEGATIVE = text_of(4).rows(3, 4)
SEEDS = (3, 11, 4)


def conditioning(route: Any) -> ConditioningConfig:
    return ConditioningConfig(semantic=TextSemantic(encoder=SMALL_WORDS, route=route), controls=(Flip(),))


def generator(config: ConditioningConfig) -> Generator:
    return Generator(small_model(SMALL_MMDIT, config).eval(), IdentityAutoencoder(), STATS, (8, 8))


def given(config: ConditioningConfig) -> ConditionInputs:
    return inputs_for(config, 3, keep_control=torch.tensor([True, False, True]))


@pytest.mark.parametrize("route", ["context", "both", "modulation"])
@torch.no_grad()
def test_the_branch_without_a_caption_sees_the_negative_one(route: Any) -> None:
    config = conditioning(route)
    drawing, inputs = generator(config), given(config)
    negative = NEGATIVE.joined([NEGATIVE] * 3)
    x_t, branches = randn(3, 3, 8, 8), (CONDITIONAL, SEMANTIC_ONLY, UNCONDITIONAL)
    found = drawing.branches_of(inputs, negative)(x_t.repeat(3, 1, 1, 1), 0.4, branches).x_0.chunk(3)
    t, none = torch.full((3,), 0.4), torch.zeros(3, dtype=torch.bool)
    uncontrolled = inputs.kept(inputs.keep_semantic, none)
    wanted = [inputs, uncontrolled, replace(uncontrolled, text=negative)]
    for one, its_inputs in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, drawing.model.denoise(x_t, t, its_inputs).x_0)
    assert not torch.allclose(found[2], drawing.branches_of(inputs)(x_t, 0.4, (UNCONDITIONAL,)).x_0, atol=1e-3)


@torch.no_grad()
def test_pictures_without_a_caption_are_led_away_from_the_negative_one_too() -> None:
    config = conditioning("context")
    none = torch.zeros(3, dtype=torch.bool)
    drawing, inputs = generator(config), inputs_for(config, 3, keep_semantic=none, keep_control=none)
    negative, x_t, t = NEGATIVE.joined([NEGATIVE] * 3), randn(3, 3, 8, 8), torch.full((3,), 0.4)
    found = drawing.branches_of(inputs, negative)(x_t.repeat(2, 1, 1, 1), 0.4, (CONDITIONAL, UNCONDITIONAL)).x_0.chunk(2)
    torch.testing.assert_close(found[0], drawing.model.denoise(x_t, t, inputs).x_0)
    wanted = replace(inputs.kept(~none, none), text=negative)
    torch.testing.assert_close(found[1], drawing.model.denoise(x_t, t, wanted).x_0)
    assert not torch.allclose(found[0], found[1], atol=1e-3)


@pytest.mark.parametrize("batch_size", [2, 3])
def test_away_from_the_prompt_itself_is_no_guidance(batch_size: int) -> None:
    config = conditioning("context")
    drawing, inputs = generator(config), inputs_for(config, 3, keep_control=torch.zeros(3, dtype=torch.bool))
    plain = {"solver": "euler", "steps": 3, "batch_size": batch_size}
    wanted = drawing.images(inputs, SEEDS, SamplingConfig.model_validate(plain))
    guided = SamplingConfig.model_validate(plain | {"guidance": {"semantic_scale": 4.0}})
    found = drawing.images(inputs, SEEDS, guided, negative=inputs.text)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(drawing.images(inputs, SEEDS, guided), wanted, atol=1e-2)


@torch.no_grad()
def test_kept_controls_are_seen_by_the_branch_without_a_caption() -> None:
    config = conditioning("context")
    drawing, inputs, x_t = generator(config), inputs_for(config, 3), randn(3, 3, 8, 8)
    kept = drawing.branches_of(inputs, keep_controls=True)(x_t, 0.4, (UNCONDITIONAL,)).x_0
    wanted = inputs.kept(torch.zeros(3, dtype=torch.bool), inputs.keep_control)
    torch.testing.assert_close(kept, drawing.model.denoise(x_t, torch.full((3,), 0.4), wanted).x_0)
    assert not torch.allclose(kept, drawing.branches_of(inputs)(x_t, 0.4, (UNCONDITIONAL,)).x_0, atol=1e-3)
