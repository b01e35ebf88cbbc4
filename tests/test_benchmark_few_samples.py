"""benchmarks/few_samples.py measures with the project's metrics, ranks as scipy does, and compares draw by draw."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from types import ModuleType

import pytest
import torch
from scipy import stats

from open_ldm.evaluation.bootstrap import BootstrapConfig
from open_ldm.evaluation.metrics import FIDConfig, KIDConfig, SlicedWassersteinConfig
from tests.helpers import randn

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """benchmarks/few_samples.py."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import few_samples as found

    yield found
    for name in ("few_samples", "graded_pictures", "figures"):
        sys.modules.pop(name, None)


def test_agreement_is_kendalls_tau_as_scipy_has_it(few: ModuleType) -> None:
    for seed in range(5):
        values, truth = (randn(9, seed=2 * seed + side).tolist() for side in (0, 1))
        assert few.kendall(values, few.pairs_by(truth)) == pytest.approx(stats.kendalltau(values, truth).statistic)
    assert few.kendall([3.0, 2.0, 1.0], few.pairs_by([1.0, 2.0, 3.0])) == -1
    assert few.kendall([1.0, 1.0], [(0, 1)]) == 0
    values = [1.0, 4.0, 1.5]
    assert few.farther_half(values, few.pairs_by(values)) == [(0, 1), (2, 1)]


def test_each_distance_is_what_its_metric_measures(few: ModuleType) -> None:
    reference, vectors = randn(90, 4, seed=1), randn(40, 4, seed=2) * 1.3 + 0.2
    kid, sliced = KIDConfig(subset_size=30, subsets=2), SlicedWassersteinConfig(directions=9)
    found = few.Distances(reference, kid, sliced).measure(vectors)
    for metric in (FIDConfig(), kid, sliced):
        samples, data = few.statistics_of(vectors), few.statistics_of(reference)
        (estimate,) = metric.measure(samples, data, BootstrapConfig(replicates=20))
        assert found[metric.kind] == pytest.approx(estimate.value, rel=1e-9)


def test_the_known_order_is_that_of_strength_within_a_family(few: ModuleType) -> None:
    nothing = torch.zeros(1, 1)
    sets = [few.Graded("photographs", 0, nothing), *(few.Graded("noise", each, nothing) for each in (1, 2))]
    sets.append(few.Graded("classes", 1.5, nothing))
    assert few.known_pairs(sets) == [(0, 1), (0, 2), (0, 3), (1, 2)]


def test_metrics_are_compared_draw_by_draw_and_with_ten_times_the_pictures(few: ModuleType) -> None:
    right, wrong = [1.0, 2.0, 3.0], [2.0, 1.0, 3.0]  # a tau of 1 and of 1/3

    def cell(pictures: int, fid: list[float], sliced: list[float]) -> dict[str, object]:
        return {"pictures": pictures, "values": {"fid": fid, "kid": wrong, "sliced_wasserstein": sliced}}

    cells = {"all": cell(1000, right, right)}
    for draw, (large, small) in enumerate([(right, wrong), (right, wrong), (wrong, right)]):
        cells |= {f"1/3, {draw}": cell(333, large, right), f"1/30, {draw}": cell(33, small, wrong)}
    rows = {(row["pictures"], row["truth"], row["metric"]): row for row in few.summary(cells, [(0, 1)])}
    assert len(rows) == 2 * 4 * 3
    at_33 = rows[33, "fd", "sliced_wasserstein"]
    assert at_33["tau"]["mean"] == pytest.approx(1 / 3) == at_33["tau"]["low"]
    assert at_33["above_fd"]["mean"] == pytest.approx(-2 / 9) and at_33["above_kid"]["mean"] == 0
    assert rows[333, "fd", "fid"]["above_kid"]["mean"] == pytest.approx(4 / 9)
    assert at_33["above_fd_of_ten_times"]["mean"] == pytest.approx((-2 / 3 - 2 / 3 + 0) / 3)
    assert "above_fd_of_ten_times" not in rows[333, "fd", "kid"]
    assert rows[33, "own", "kid"]["tau"]["mean"] == 1 and rows[333, "strength", "fid"]["tau"]["mean"] == pytest.approx(1 / 3)
    assert rows[33, "fd", "fid"]["above_fd"] == {"mean": 0, "low": 0, "high": 0}
    printed = few.table(list(rows.values())).splitlines()
    assert len(printed) == 2 + len(rows) and "| 33 | kid | FD of all | 0.333 [0.333, 0.333] |" in "\n".join(printed)


def test_a_lower_share_of_exchanged_pictures_is_part_of_a_higher_one(few: ModuleType) -> None:
    import graded_pictures

    labels = torch.arange(40) % 4
    less, more = (graded_pictures.exchanged(labels, share) for share in (0.25, 0.5))
    for found, count in ((less, 5), (more, 10)):
        changed = found != torch.arange(40)
        assert int(changed.sum()) == count and (labels[changed] < 2).all() and (labels[found[changed]] >= 2).all()
    changed = less != torch.arange(40)
    assert torch.equal(less[changed], more[changed])


def test_larger_draws_hold_the_smaller_ones_and_sets_are_drawn_apart(few: ModuleType) -> None:
    vectors = torch.arange(50).float().unsqueeze(1)
    sets = [few.Graded("noise", strength, vectors) for strength in (1, 2)]
    large, small, others = few.drawn(sets[0], 20, 3), few.drawn(sets[0], 10, 3), few.drawn(sets[1], 10, 3)
    assert torch.equal(large[:10], small) and len(small.unique()) == 10
    again = [few.drawn(sets[0], 10, draw) for draw in (3, 4)]
    assert torch.equal(small, again[0]) and not any(torch.equal(*pair) for pair in combinations([small, others, again[1]], 2))
