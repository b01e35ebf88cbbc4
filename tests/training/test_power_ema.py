"""Averages by powers, and one of any length made of snapshots of two."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from open_ldm.training.ema import Ema
from open_ldm.training.power_ema import Average, combine_averages, power_of, snapshots_kept, step_towards
from open_ldm.training.settings import AnyEmaConfig, EmaConfig, PowerEmaConfig
from tests.helpers import randn, small_model
from tests.training.small_run import settings

LENGTHS = (0.05, 0.1)


def course(seed: int, updates: int, numbers: int = 3) -> Any:
    """Weights after each update [updates, numbers]: a random walk with jumps."""
    source = np.random.default_rng(seed)
    return np.cumsum(source.normal(size=(updates, numbers)) * source.exponential(size=(updates, 1)), axis=0)


def averaged(weights: Any, length: float) -> Any:
    """The average of a length after each update, by the sum of its definition."""
    exponent = power_of(length) + 1
    ends = np.arange(len(weights) + 1.0)
    shares = np.diff(ends**exponent)
    return np.stack([(shares[:n, None] * weights[:n]).sum(axis=0) / n**exponent for n in range(1, len(weights) + 1)])


@pytest.mark.parametrize("length", [0.005, 0.05, 0.1, 0.13, 0.25, 0.2886])
def test_the_length_is_the_standard_deviation_of_the_age(length: float) -> None:
    power = power_of(length)
    assert math.sqrt(power + 1) / (power + 2) / math.sqrt(power + 3) == pytest.approx(length, rel=1e-9)
    t = (np.arange(200_000) + 0.5) / 200_000
    density = (power + 1) * t**power / len(t)
    mean = (density * t).sum()
    assert math.sqrt((density * (t - mean) ** 2).sum()) == pytest.approx(length, rel=1e-4)


def test_the_plain_mean_is_the_longest() -> None:
    assert power_of(12**-0.5) == pytest.approx(0, abs=1e-6)
    assert [step_towards(0.0, n) for n in (1, 2, 4)] == pytest.approx([1, 1 / 2, 1 / 4])


def test_both_averages_of_a_model_follow_the_definition() -> None:
    model, config = small_model(), PowerEmaConfig(lengths=(0.05, 0.2))
    ema = Ema(model, config)
    seen: list[dict[str, Any]] = []
    for update in range(1, 20):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(randn(*parameter.shape, seed=update))
        ema.update(update)
        seen.append({name: each.detach().double().numpy().copy() for name, each in model.named_parameters()})
    for length, group in zip(config.lengths, config.groups, strict=True):
        for name, found in ema.snapshot()[group].items():
            wanted = averaged(np.stack([each[name].reshape(-1) for each in seen]), length)[-1]
            np.testing.assert_allclose(found.numpy().reshape(-1), wanted, rtol=1e-4, atol=2e-5)
    first = "denoiser.patch_embedding.proj.weight"
    assert torch.equal(ema.tensors()[first], ema.snapshot()["ema_0.05"][first])  # what the run itself samples with


@hypothesis_settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), updates=st.integers(2, 60), length=st.floats(0.01, 0.28))
def test_with_a_snapshot_of_every_update_any_length_is_exact(seed: int, updates: int, length: float) -> None:
    weights = course(seed, updates)
    tracks = [averaged(weights, one) for one in LENGTHS]
    kept = [Average(power_of(one), n) for one in LENGTHS for n in range(1, updates + 1)]
    found = combine_averages(kept, Average(power_of(length), updates))
    made = sum(factor * value for factor, value in zip(found.factors, np.concatenate(tracks), strict=True))
    np.testing.assert_allclose(made, averaged(weights, length)[-1], rtol=0, atol=1e-9 * np.abs(weights).max())
    assert found.error < 1e-9


@pytest.mark.parametrize("length", [0.03, 0.075, 0.13, 0.2])
def test_fewer_snapshots_are_further_off_and_the_error_says_so(length: float) -> None:
    updates = 400
    weights = np.eye(updates)  # the average of these are the shares themselves
    tracks = {one: averaged(weights, one) for one in LENGTHS}
    wanted = averaged(weights, length)[-1]
    errors = []
    for count in (4, 10, 40, 100):
        ends = [updates * (i + 1) // count for i in range(count)]
        found = combine_averages(
            [Average(power_of(one), end) for end in ends for one in LENGTHS], Average(power_of(length), updates)
        )
        values = [tracks[one][end - 1] for end in ends for one in LENGTHS]
        made = sum(factor * value for factor, value in zip(found.factors, values, strict=True))
        assert np.linalg.norm(made - wanted) / np.linalg.norm(wanted) == pytest.approx(found.error, rel=1e-6)
        errors.append(found.error)
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.01 < errors[0]


def test_many_updates_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = [Average(power_of(one), end) for one in LENGTHS for end in (1000, 2500, 4000)]
    wanted = Average(power_of(0.13), 4000)
    whole = combine_averages(kept, wanted)
    monkeypatch.setattr("open_ldm.training.power_ema._PART", 7)
    parts = combine_averages(kept, wanted)
    assert parts.factors == pytest.approx(whole.factors, rel=1e-6) and parts.error == pytest.approx(whole.error, rel=1e-6)


@given(last=st.integers(1, 3000), most=st.integers(4, 40), stopped=st.integers(1, 3000))
def test_snapshots_are_bounded_spread_evenly_and_the_same_after_a_stop(last: int, most: int, stopped: int) -> None:
    kept: set[int] = set()
    for number in range(1, last + 1):
        kept = snapshots_kept({*kept, number}, most)
        assert len(kept) <= most
    assert len({b - a for a, b in zip(sorted(kept), sorted(kept)[1:], strict=False)}) <= 1
    again = {*kept}
    for number in range(min(stopped, last), last + 1):  # what was made after the last checkpoint is made once more
        again = snapshots_kept({*again, number}, most)
    assert again == kept


def test_a_recipe_without_a_kind_is_of_the_time_of_one_average() -> None:
    read = TypeAdapter(AnyEmaConfig)
    assert read.validate_python({"decay": 0.99}) == EmaConfig(decay=0.99)
    assert read.dump_python(EmaConfig()) == {"decay": 0.9999, "warmup": True}  # stored recipes and their hashes stay
    assert settings(ema={"kind": "power", "lengths": [0.03, 0.2]}).ema == PowerEmaConfig(lengths=(0.03, 0.2))
    assert settings().snapshot_every_samples == 0 and settings(ema=PowerEmaConfig()).snapshot_every_samples == 32
    for wrong in ({"kind": "power", "decay": 0.9}, {"kind": "power", "lengths": [0.1, 0.1]}, {"lengths": [0.1, 0.2]}):
        with pytest.raises(ValidationError):
            read.validate_python(wrong)


def test_lengths_whose_groups_would_have_one_name_are_refused() -> None:
    with pytest.raises(ValidationError, match="are the same to six digits"):
        PowerEmaConfig(lengths=(0.1, 0.1000001))
