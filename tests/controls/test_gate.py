from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from pydantic import ValidationError

from open_ldm.controls.gate import ConstantGate, CosinePowerGate, PowerCosineGate, gamma

TIMES = torch.linspace(0, 1, 1001)
POWERS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("alpha", POWERS)
@pytest.mark.parametrize("kind", [PowerCosineGate, CosinePowerGate])
def test_ends_are_exact_and_gates_fall_towards_noise(
    kind: type[PowerCosineGate] | type[CosinePowerGate], alpha: float, dtype: torch.dtype
) -> None:
    values = gamma(kind(alpha=alpha), TIMES.to(dtype))
    assert values.dtype == dtype
    assert float(values[-1]) == 0
    assert float(values[0]) == 1
    assert bool((values.diff() <= 1e-6).all())
    assert bool(((values >= 0) & (values <= 1)).all())
    assert float(values[0] - values[500]) > 1e-4


@pytest.mark.parametrize("alpha", POWERS)
def test_formulas(alpha: float) -> None:
    for t in (0.0, 0.1, 0.3, 0.5, 0.9):
        time = torch.tensor([t], dtype=torch.float64)
        wanted = (1 - math.cos(math.pi * (1 - t) ** alpha)) / 2
        assert gamma(PowerCosineGate(alpha=alpha), time).item() == pytest.approx(wanted, abs=1e-12)
        wanted = ((1 + math.cos(math.pi * t)) / 2) ** alpha
        assert gamma(CosinePowerGate(alpha=alpha), time).item() == pytest.approx(wanted, abs=1e-12)


def test_larger_alpha_enters_later() -> None:
    inside = TIMES[1:-1]
    for low, high in pairwise(POWERS):
        assert bool((gamma(PowerCosineGate(alpha=high), inside) <= gamma(PowerCosineGate(alpha=low), inside)).all())


def test_constant_is_one_everywhere() -> None:
    assert torch.equal(gamma(ConstantGate(), TIMES), torch.ones_like(TIMES))


@pytest.mark.parametrize("alpha", [0.0, -1.0])
def test_alpha_must_be_positive(alpha: float) -> None:
    with pytest.raises(ValidationError):
        PowerCosineGate(alpha=alpha)
