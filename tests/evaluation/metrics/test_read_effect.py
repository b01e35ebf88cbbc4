"""What a reader reads off samples against real pictures: 0 where nothing follows the control, 1 where as much."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from open_ldm.core.errors import DataError
from open_ldm.data.label_column import Bins
from open_ldm.evaluation.metrics.control_effect import slope_effects
from open_ldm.evaluation.metrics.read_effect import read_effects, real_readings

VALUES = ("HE", "PAS", "MT")


def readings(numbers: np.random.Generator, sharp: float, count: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities [count, 3] of pictures of three categories, and their categories."""
    own = torch.arange(count) % 3
    logits = sharp * torch.eye(3)[own] + torch.tensor(numbers.normal(0, 0.3, (count, 3)))
    return logits.softmax(dim=1), own


@pytest.mark.parametrize(("share", "wanted"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)])
def test_the_effect_is_the_share_of_what_real_pictures_change(share: float, wanted: float) -> None:
    real, own = readings(np.random.default_rng(0), 3.0)
    found = real_readings(real, own, VALUES)
    centre = torch.stack(list(found.means.values())).mean(dim=0)
    samples = {value: (centre + share * (mean - centre)).repeat(4, 1) for value, mean in found.means.items()}
    effects = read_effects(samples, found.means)
    assert effects.shape == (4,) and effects.tolist() == pytest.approx([wanted] * 4)
    swapped = {"HE": samples["PAS"], "PAS": samples["MT"], "MT": samples["HE"]}
    assert share == 0 or float(read_effects(swapped, found.means)[0]) < 0


def test_of_one_number_it_is_the_slope() -> None:
    numbers = torch.Generator().manual_seed(0)
    means = {"10": 1.0, "20": 2.5, "40": 3.0}
    samples = {value: torch.rand(7, 1, generator=numbers).double() for value in means}
    slope = slope_effects({value: each[:, 0] for value, each in samples.items()}, means)
    real = {value: torch.tensor([mean], dtype=torch.float64) for value, mean in means.items()}
    assert torch.allclose(read_effects(samples, real), slope)


def test_a_reader_that_tells_nothing_apart_gives_no_number() -> None:
    real, own = readings(np.random.default_rng(1), 0.0)
    with pytest.raises(DataError, match="tells no two of these values apart"):
        real_readings(real, own, VALUES)
    with pytest.raises(DataError, match=r"too few real pictures have the values \(HE: 60, PAS: 0, MT: 0\)"):
        real_readings(real, torch.zeros(60, dtype=torch.long), VALUES)
    sharp, _ = readings(np.random.default_rng(1), 3.0)
    few = real_readings(sharp, torch.where(own == 2, -1, own), VALUES)
    assert few.left_out == ("MT",) and few.counts == {"HE": 20, "PAS": 20}


def test_numbers_become_classes_of_equally_many_pictures() -> None:
    values = np.array([*np.random.default_rng(0).lognormal(0, 1, 90), np.nan, np.nan])
    bins = Bins.of(values, 6)
    counts = np.bincount([label for label in bins.labels if label is not None])
    assert counts.tolist() == [15] * 6 and bins.labels[-2:] == (None, None)
    assert list(bins.centres) == sorted(bins.centres) and len(bins.names) == 6
    for value, label in zip(values[:90], bins.labels[:90], strict=True):
        low, high = (float(word) for word in bins.names[label or 0].split(" to "))
        assert low * (1 - 1e-5) <= value <= high * (1 + 1e-5)


def test_few_different_numbers_are_classes_of_their_own() -> None:
    bins = Bins.of(np.array([10, 40, 20, 10, np.nan]), 8)
    assert bins == Bins(("10", "20", "40"), (10, 20, 40), (0, 2, 1, 0, None))
    many_equal = Bins.of(np.array([1.0] * 50 + list(range(2, 12))), 4)
    assert len(set(many_equal.labels)) == len(many_equal.centres) == len(many_equal.names)
