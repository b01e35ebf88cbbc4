from __future__ import annotations

from typing import get_args

import pytest
import torch

from open_ldm.process.prediction import PredictionKind, target, to_eps
from open_ldm.process.schedules import NoiseLevel
from open_ldm.process.weighting import ErrorOfWeighting, MinSnrWeighting, UniformWeighting, weight
from tests.process.cases import SCHEDULES

KINDS: tuple[PredictionKind, ...] = get_args(PredictionKind)
T = torch.tensor([0.03, 0.2, 0.5, 0.8, 0.99], dtype=torch.float64)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_weighted_error_is_the_same_for_every_prediction(name: str) -> None:
    level = SCHEDULES[name].level(T)
    x_0, eps, error = torch.randn(3, 5, 2, 3, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    at = level.like(x_0)
    x_t = at.alpha * x_0 + at.sigma * eps
    guess = x_0 + error
    implied = to_eps("x_0", guess, x_t, level)
    expected = level.snr.clamp(max=5) * error.square().flatten(1).sum(1)
    for kind in KINDS:
        gap = target(kind, guess, implied, level) - target(kind, x_0, eps, level)
        weighted = weight(MinSnrWeighting(), kind, level) * gap.square().flatten(1).sum(1)
        torch.testing.assert_close(weighted, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("wanted", KINDS)
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_error_of_another_prediction_weighs_as_if_the_network_predicted_it(name: str, wanted: PredictionKind) -> None:
    level = SCHEDULES[name].level(T)
    x_0, eps, error = torch.randn(3, 5, 2, 3, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    at = level.like(x_0)
    guess = x_0 + error
    implied = to_eps("x_0", guess, at.alpha * x_0 + at.sigma * eps, level)

    def squared(kind: PredictionKind) -> torch.Tensor:
        gap = target(kind, guess, implied, level) - target(kind, x_0, eps, level)
        return gap.square().flatten(1).sum(1)

    for kind in KINDS:
        config = ErrorOfWeighting(prediction=wanted, smallest=1e-9)
        torch.testing.assert_close(weight(config, kind, level) * squared(kind), squared(wanted), rtol=1e-9, atol=0)


def test_the_smallest_sigma_bounds_the_weight_near_the_data() -> None:
    near = NoiseLevel(torch.tensor([0.98, 1.0]), torch.tensor([0.02, 0.0]))
    config = ErrorOfWeighting(prediction="velocity")
    torch.testing.assert_close(weight(config, "x_0", near), torch.tensor([(1.03 / 0.05) ** 2, (1.05 / 0.05) ** 2]))
    torch.testing.assert_close(weight(config, "velocity", near), torch.ones(2))


def test_published_forms_for_variance_preserving_schedules() -> None:
    level = SCHEDULES["linear"].level(T)
    snr = level.alpha**2 / level.sigma**2
    config = MinSnrWeighting(gamma=5)
    torch.testing.assert_close(weight(config, "eps", level), torch.minimum(snr, torch.tensor(5.0)) / snr)
    torch.testing.assert_close(weight(config, "v", level), torch.minimum(snr, torch.tensor(5.0)) / (snr + 1))
    assert bool((weight(config, "eps", level)[snr < 5] == 1).all())


def test_both_ends_are_finite() -> None:
    ends = NoiseLevel(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))
    expected = {"eps": [0, 1], "x_0": [5, 0], "v": [0, 0], "velocity": [0, 0]}
    for kind in KINDS:
        assert weight(MinSnrWeighting(), kind, ends).tolist() == expected[kind]
        assert weight(UniformWeighting(), kind, ends).tolist() == [1, 1]
        for wanted in KINDS:
            assert bool(weight(ErrorOfWeighting(prediction=wanted), kind, ends).isfinite().all())
