"""A model that repeats its training pictures is told from one that does not."""

from __future__ import annotations

import pytest
import torch

from open_ldm.evaluation.features.random import RandomConfig
from open_ldm.evaluation.memorised import memorised, share_nearer
from open_ldm.evaluation.pictures import numbered
from open_ldm.evaluation.statistics import Statistics, collect
from tests.helpers import randn


def seen(images: torch.Tensor) -> Statistics:
    return collect(numbered([images]), [RandomConfig().build(torch.device("cpu"))])[0]


def pictures(count: int, seed: int) -> torch.Tensor:
    return torch.nn.functional.interpolate(randn(count, 3, 4, 4, seed=seed), (16, 16)).clamp(-1, 1)


def test_copies_are_nearer_and_new_pictures_are_not() -> None:
    training, held_out, new = pictures(300, 0), pictures(100, 1), pictures(100, 2)
    copies = (training[:100] + 0.01 * randn(100, 3, 16, 16, seed=3)).clamp(-1, 1)
    of_training = seen(training)
    for beside in (seen(held_out), None):
        assert memorised(seen(new), of_training, beside).nearer == pytest.approx(0.5, abs=0.12)
        assert memorised(seen(copies), of_training, beside).nearer > 0.95
    far, near = (memorised(seen(one), of_training, None).frechet_distance for one in (0.3 * new, new))
    assert far > 2 * near > 0


def test_equal_distances_count_half() -> None:
    usual = torch.tensor([1.0, 2.0, 2.0, 3.0], dtype=torch.float64)
    assert share_nearer(torch.tensor([2.0], dtype=torch.float64), usual) == 0.5
    assert share_nearer(torch.tensor([0.0, 9.0], dtype=torch.float64), usual) == 0.5
    assert share_nearer(torch.tensor([0.5], dtype=torch.float64), usual) == 1.0
