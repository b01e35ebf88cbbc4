from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from open_ldm.core.errors import DataError
from open_ldm.evaluation.bootstrap import BootstrapConfig
from open_ldm.evaluation.neighbours import nearest_training
from open_ldm.evaluation.statistics import Statistics
from tests.evaluation.sets import normal_statistics, statistics_of
from tests.helpers import randn

TRAINING = randn(60, 3, seed=1)


def reordered(found: Statistics, seed: int) -> Statistics:
    order = torch.randperm(len(found.rows), generator=torch.Generator().manual_seed(seed))
    return replace(found, rows=found.rows.take(order))


def test_neighbours_are_the_plain_ones_by_number_whatever_the_order() -> None:
    samples = randn(9, 3, seed=2)
    found = nearest_training(reordered(statistics_of(samples), 1), reordered(statistics_of(TRAINING), 2), count=2)
    assert found.samples.tolist() == list(range(9))
    for row, sample in enumerate(samples.tolist()):
        apart = sorted((math.dist(sample, other), place) for place, other in enumerate(TRAINING.tolist()))
        assert found.training[row].tolist() == [place for _, place in apart[:2]]
        assert found.distances[row].tolist() == pytest.approx([value for value, _ in apart[:2]], rel=1e-5)
    plain = [min(math.dist(a, b) for j, b in enumerate(TRAINING.tolist()) if j != i) for i, a in enumerate(TRAINING.tolist())]
    assert found.typical.tolist() == pytest.approx(sorted(plain), rel=1e-5)


def test_copies_are_told_from_new_pictures() -> None:
    new = randn(400, 3, seed=3)
    copied = TRAINING[torch.arange(400) % 60] + 1e-4 * randn(400, 3, seed=4)
    fresh = nearest_training(statistics_of(new), statistics_of(TRAINING))
    repeated = nearest_training(statistics_of(copied), statistics_of(TRAINING))
    assert repeated.training[:, 0].tolist() == [place % 60 for place in range(400)]
    assert float(repeated.ranks.max()) == 0
    assert repeated.copies(0.05).value == 1
    assert fresh.copies(0.05).value < 0.15
    assert abs(float(fresh.ranks.mean()) - 0.5) < 0.1, "new pictures of the same kind are spread evenly"
    half = nearest_training(statistics_of(torch.cat([new[:200], copied[:200]])), statistics_of(TRAINING))
    estimate = half.copies(0.05, BootstrapConfig(replicates=50))
    assert estimate.low < 0.5 + fresh.copies(0.05).value / 2 < estimate.high


def test_a_training_set_that_was_not_kept_is_refused() -> None:
    training = statistics_of(TRAINING)
    partly = replace(training, rows=training.rows.take(torch.arange(20)))
    with pytest.raises(DataError, match=r"only 20 of 60 training pictures were kept singly; fix: collect with capacity=60"):
        nearest_training(normal_statistics(5, 3, 1), partly)
    with pytest.raises(DataError, match="2 training pictures; needed: more than 2"):
        nearest_training(normal_statistics(5, 3, 1), normal_statistics(2, 3, 1), count=2)
