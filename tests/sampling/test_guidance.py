from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from open_ldm.core.config import validate
from open_ldm.core.errors import ConfigError
from open_ldm.process.prediction import Denoised, to_eps, to_x_0
from open_ldm.process.schedules import LinearSchedule, RectifiedFlow, build_schedule
from open_ldm.sampling.autoguidance import with_guide
from open_ldm.sampling.guidance import (
    CONDITIONAL,
    GUIDE,
    SEMANTIC_ONLY,
    UNCONDITIONAL,
    Branch,
    GuidanceConfig,
    PowerCosineGuidance,
    branch_weights,
    branches,
    combine,
    guided,
    scales,
)
from open_ldm.sampling.rescale import rescaled
from tests.process.cases import SCHEDULES

FLOW = RectifiedFlow()
SHAPE = (2, 4, 3, 3)
X = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
OFFSET = {CONDITIONAL: 1.0, SEMANTIC_ONLY: -0.5, UNCONDITIONAL: 0.25}


class Recorder:
    """A denoiser whose answer tells its branch and its row."""

    def __init__(self) -> None:
        self.calls: list[tuple[Branch, ...]] = []

    def __call__(self, x_t: Tensor, t: float, needed: tuple[Branch, ...]) -> Denoised:
        assert len(x_t) == len(needed) * len(X)
        self.calls.append(needed)
        parts = [self.alone(x, branch) for x, branch in zip(x_t.chunk(len(needed)), needed, strict=True)]
        offset = torch.cat([torch.full(SHAPE, OFFSET.get(branch, -2.0)) for branch in needed])
        return Denoised(torch.cat(parts), offset)

    def alone(self, x: Tensor, branch: Branch) -> Tensor:
        return torch.sin(x * (1 + OFFSET[branch])) + OFFSET[branch]


def run(t: float = 0.5, **config: Any) -> tuple[Denoised, Recorder]:
    recorder = Recorder()
    return guided(recorder, GuidanceConfig(**config), FLOW)(X, t), recorder


def by_formula(w_s: float, w_c: float) -> Tensor:
    c, s, n = (Recorder().alone(X, branch) for branch in (CONDITIONAL, SEMANTIC_ONLY, UNCONDITIONAL))
    return n + w_s * ((s + w_c * (c - s)) - n)


@pytest.mark.parametrize(
    ("w_s", "w_c", "needed"),
    [
        (1.0, 1.0, (CONDITIONAL,)),
        (4.0, 1.0, (CONDITIONAL, UNCONDITIONAL)),
        (1.0, 2.0, (CONDITIONAL, SEMANTIC_ONLY)),
        (4.0, 2.0, (CONDITIONAL, SEMANTIC_ONLY, UNCONDITIONAL)),
        (0.0, 3.0, (UNCONDITIONAL,)),
        (1.0, 0.0, (SEMANTIC_ONLY,)),
        (2.5, 0.0, (SEMANTIC_ONLY, UNCONDITIONAL)),
    ],
)
def test_the_formula_in_one_batch_of_the_branches_it_needs(w_s: float, w_c: float, needed: tuple[Branch, ...]) -> None:
    assert branches(w_s, w_c) == needed
    assert sum(branch_weights(w_s, w_c).values()) == pytest.approx(1)
    result, recorder = run(semantic_scale=w_s, control_scale=w_c)
    assert recorder.calls == [needed]
    torch.testing.assert_close(result.x_0, by_formula(w_s, w_c), rtol=0, atol=1e-12)
    assert result.variance_fraction is not None
    torch.testing.assert_close(result.variance_fraction, torch.full(SHAPE, OFFSET[needed[0]]))


def test_no_guidance_is_the_conditional_denoiser() -> None:
    result, _ = run()
    torch.testing.assert_close(result.x_0, Recorder().alone(X, CONDITIONAL), rtol=0, atol=0)


@pytest.mark.parametrize("name", SCHEDULES)
def test_combining_x_0_is_combining_eps(name: str) -> None:
    level = SCHEDULES[name].level(torch.tensor(0.6, dtype=torch.float64))
    estimates = [Recorder().alone(X, branch) for branch in OFFSET]
    weights = branch_weights(3.0, 1.5).values()
    eps = torch.stack([w * to_eps("x_0", x_0, X, level) for w, x_0 in zip(weights, estimates, strict=True)]).sum(0)
    guided_x_0 = combine(Denoised(torch.cat(estimates)), 3.0, 1.5).x_0
    torch.testing.assert_close(guided_x_0, to_x_0("eps", eps, X, level), rtol=0, atol=1e-11)


def test_guidance_is_linear_in_the_semantic_scale() -> None:
    at = {w: run(semantic_scale=w, control_scale=1.7)[0].x_0 for w in (2.0, 3.0, 6.0)}
    torch.testing.assert_close(at[6.0] - at[3.0], 3 * (at[3.0] - at[2.0]), rtol=0, atol=1e-11)


def test_outside_the_interval_nothing_is_guided() -> None:
    for t, inside in ((0.19, False), (0.2, True), (0.5, True), (0.8, True), (0.81, False)):
        result, recorder = run(t, semantic_scale=4.0, interval=(0.2, 0.8))
        assert recorder.calls == [(CONDITIONAL, UNCONDITIONAL) if inside else (CONDITIONAL,)]
        torch.testing.assert_close(result.x_0, by_formula(4.0 if inside else 1.0, 1.0), rtol=0, atol=1e-12)


def share_at(config: GuidanceConfig, index: int) -> float:
    """How much of the guidance is in force at a DDPM index, as published code counts, 0..999."""
    return (scales(config, (index + 1) / 1000, build_schedule(LinearSchedule()))[0] - 1) / (config.semantic_scale - 1)


def test_power_cosine_runs_from_none_to_all() -> None:
    config = GuidanceConfig(semantic_scale=3.8, control_scale=2.0, schedule=PowerCosineGuidance(power=4.0))
    assert scales(config, 1.0, FLOW) == (1, 1, 1)
    assert scales(config, 0.0, FLOW) == pytest.approx((3.8, 2.0, 1.0))
    share = (1 - math.cos(math.pi * 0.75**4)) / 2
    assert scales(config, 0.25, FLOW) == pytest.approx((1 + 2.8 * share, 1 + share, 1))
    assert share_at(config, 0) == pytest.approx(1) and share_at(config, 999) == pytest.approx(0, abs=1e-12)
    assert share_at(config, 249) == pytest.approx((1 - math.cos(math.pi * 0.751**4)) / 2, rel=1e-12)  # MDTv2's own clock
    _, recorder = run(1.0, semantic_scale=3.8, schedule=PowerCosineGuidance())
    assert recorder.calls == [(CONDITIONAL,)]


def test_channels_left_out_are_conditional() -> None:
    result, _ = run(semantic_scale=4.0, channels=3)
    torch.testing.assert_close(result.x_0[:, :3], by_formula(4.0, 1.0)[:, :3], rtol=0, atol=1e-12)
    torch.testing.assert_close(result.x_0[:, 3:], Recorder().alone(X, CONDITIONAL)[:, 3:], rtol=0, atol=0)
    with pytest.raises(ConfigError, match="leaves out none of the 4 channels"):
        run(semantic_scale=4.0, channels=4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"semantic_scale": 2.0, "interval": [0.8, 0.2]},
        {"semantic_scale": 2.0, "interval": [0.2, 1.2]},
        {"semantic_scale": -1.0},
        {"semantic_scale": 2.0, "channels": 0},
        {"interval": [0.2, 0.8]},
        {"channels": 3},
        {"schedule": {"kind": "power_cosine"}},
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        GuidanceConfig.model_validate(wrong)
    with pytest.raises(ConfigError):
        validate(GuidanceConfig, wrong, source="test")


def test_controls_that_stay_leave_no_scale_of_their_own() -> None:
    assert GuidanceConfig(semantic_scale=3, keep_controls=True).keep_controls
    with pytest.raises(ValueError, match="control_scale has no effect"):
        GuidanceConfig(semantic_scale=3, control_scale=2, keep_controls=True)


class Weaker(Recorder):
    """Another model."""

    def alone(self, x: Tensor, branch: Branch) -> Tensor:
        return torch.cos(2 * x)


def autoguided(t: float = 0.5, **config: Any) -> tuple[Denoised, Recorder, Recorder]:
    own, guide = Recorder(), Weaker()
    return guided(with_guide(own, guide), GuidanceConfig(**config), FLOW)(X, t), own, guide


@pytest.mark.parametrize("scale", [0.0, 0.5, 2.0, 3.5])
def test_autoguidance_leads_away_from_the_guide(scale: float) -> None:
    found, own, guide = autoguided(guide_scale=scale)
    model, weaker = Recorder().alone(X, CONDITIONAL), Weaker().alone(X, CONDITIONAL)
    torch.testing.assert_close(found.x_0, weaker + scale * (model - weaker))
    assert guide.calls == [(GUIDE,)] and own.calls == ([(CONDITIONAL,)] if scale else [])


@pytest.mark.parametrize(("w_s", "w_c"), [(2.5, 1.0), (1.0, 3.0), (3.0, 0.5)])
def test_autoguidance_adds_to_both_other_scales(w_s: float, w_c: float) -> None:
    found, own, _ = autoguided(semantic_scale=w_s, control_scale=w_c, guide_scale=2.0)
    added = Recorder().alone(X, CONDITIONAL) - Weaker().alone(X, CONDITIONAL)
    torch.testing.assert_close(found.x_0, by_formula(w_s, w_c) + added)
    assert own.calls[0][0] == CONDITIONAL and found.variance_fraction is not None
    assert bool((found.variance_fraction == OFFSET[CONDITIONAL]).all())  # the model's own


def test_the_guide_is_asked_only_where_guidance_is_on() -> None:
    found, own, guide = autoguided(t=0.9, guide_scale=2.0, interval=[0.1, 0.8])
    assert guide.calls == [] and own.calls == [(CONDITIONAL,)]
    torch.testing.assert_close(found.x_0, Recorder().alone(X, CONDITIONAL))
    at_noise = scales(GuidanceConfig(guide_scale=3.0, schedule=PowerCosineGuidance()), 1.0, FLOW)
    assert at_noise == (1, 1, 1)


@pytest.mark.parametrize("share", [0.3, 0.7, 1.0])
def test_rescaled_guidance_gives_each_picture_its_deviation_back(share: float) -> None:
    plain, whole = by_formula(4.0, 1.0), run(semantic_scale=4.0, rescale=share)[0].x_0
    for picture, found, alone in zip(plain, whole, Recorder().alone(X, CONDITIONAL), strict=True):
        factor = share * alone.std() / picture.std() + 1 - share
        torch.testing.assert_close(found, picture * factor)
    if share == 1:
        torch.testing.assert_close(whole.std((1, 2, 3)), Recorder().alone(X, CONDITIONAL).std((1, 2, 3)))
    assert not torch.allclose(whole, plain)


def test_rescaled_guidance_leaves_unguided_channels_and_flat_pictures_alone() -> None:
    first = run(semantic_scale=4.0, rescale=1.0, channels=3)[0].x_0
    torch.testing.assert_close(first[:, 3:], Recorder().alone(X, CONDITIONAL)[:, 3:])
    assert bool(torch.isfinite(rescaled(torch.zeros(1, 2, 3, 3), torch.ones(1, 2, 3, 3), 1.0)).all())


def test_later_settings_are_not_written_at_their_defaults_and_need_guidance() -> None:
    assert not {"guide_scale", "rescale"} & GuidanceConfig(semantic_scale=2).model_dump().keys()
    assert GuidanceConfig(guide_scale=2.0, rescale=0.5).model_dump()["guide_scale"] == 2
    with pytest.raises(ValidationError, match="while semantic_scale, control_scale and guide_scale are 1"):
        GuidanceConfig(rescale=0.5)


def test_what_is_not_guided_is_that_of_the_only_branch() -> None:
    (only,) = branches(0.0, 3.0)
    assert only == UNCONDITIONAL
    estimate = Denoised(torch.randn(2, 4, 3, 3), torch.rand(2, 4, 3, 3))
    assert combine(estimate, 0.0, 3.0, channels=3) is estimate
