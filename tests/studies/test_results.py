"""What numbers of several seeds say."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import pytest
import torch
from scipy import stats

from open_ldm.core.errors import ConfigError
from open_ldm.evaluation.bootstrap import BootstrapConfig, estimate_share
from open_ldm.studies.found import Finding, SettingFound, StudyFound
from open_ldm.studies.results import Measured, Summary, Value, difference, over_seeds, read_measured, t95, write_measured
from open_ldm.studies.study import Arm, Expectation, Protocol, Setting, Study

EXPECTED = Expectation("new", "old", "fid")


def values(*numbers: float) -> dict[int, Value]:
    return {seed: Value(number, number - 1, number + 1, "p") for seed, number in enumerate(numbers)}


def test_the_interval_over_seeds_is_students() -> None:
    found = over_seeds(list(values(1.0, 2.0, 3.0).values()))
    assert (found.mean, found.spread, found.count) == (2.0, 1.0, 3)
    assert found.high - found.mean == pytest.approx(4.303 / math.sqrt(3))  # t of 2 degrees of freedom, 97.5 %


def test_students_points_beyond_the_table_are_those_of_scipy() -> None:
    for freedom in (1, 4, 10, 11, 15, 40):
        assert t95(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=2e-3)


def test_a_finding_tells_the_relative_gain() -> None:
    rows = {("old", 0): 4.0, ("old", 1): 6.0, ("new", 0): 3.0, ("new", 1): 4.5}
    measured = [Measured(arm, seed, 1, {"fid": Value(value, value, value, "p")}) for (arm, seed), value in rows.items()]
    setting = SettingFound(Setting("s", "r", {"old": Arm(), "new": Arm()}, Protocol()), tuple(measured), {}, frozenset(), ())
    found = setting.finding(EXPECTED)
    assert found.relative == pytest.approx(-0.25) and "(-25%)" in found.text()


def test_one_seed_keeps_the_interval_of_its_pictures() -> None:
    assert over_seeds([Value(5.0, 4.0, 6.5, "p")]) == Summary(5.0, None, 4.0, 6.5, 1)


def test_the_difference_of_two_shares_is_newcombes() -> None:
    """The example of Newcombe (1998), method 10: 56 of 70 against 48 of 80 give 0.2 [0.0524, 0.3339]."""
    one, other = (
        estimate_share("share", torch.arange(count) < hits, BootstrapConfig()) for hits, count in ((56, 70), (48, 80))
    )
    found = difference({0: Value(one.value, one.low, one.high, "")}, {0: Value(other.value, other.low, other.high, "")})
    assert found is not None
    assert (found.mean, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_differences_are_paired_by_seed() -> None:
    found = difference(values(1.0, 11.0, 21.0), values(2.0, 12.0, 22.0))
    assert found is not None and (found.mean, found.spread) == (-1.0, 0.0)  # large between seeds, none between arms
    assert difference(values(1.0), {}) is None
    single = difference(values(1.0), values(4.0))
    assert single is not None and (single.low, single.high) == pytest.approx((-3 - math.sqrt(2), -3 + math.sqrt(2)))


def test_seeds_that_agree_exactly_have_the_interval_of_their_pictures() -> None:
    found = over_seeds(list(values(2.0, 2.0, 2.0).values()))
    assert (found.mean, found.spread, found.over) == (2.0, 0.0, "pictures")
    assert (found.low, found.high) == pytest.approx((2 - 1 / math.sqrt(3), 2 + 1 / math.sqrt(3)))
    paired = difference(values(1.0, 11.0), values(0.8, 10.8))
    assert paired is not None and (paired.low, paired.high) == pytest.approx((0.2 - 1, 0.2 + 1))
    assert over_seeds([Value(0.0, 0.0, 0.0, "p")] * 3) == Summary(0.0, 0.0, 0.0, 0.0, 3)  # exact by construction
    assert over_seeds(list(values(1.0, 2.0).values())).over == "seeds"


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(-2, -1, "supported"), (-2, 1, "undecided"), (1, 2, "contradicted"), (0, 0, "undecided")],
)
def test_a_verdict_needs_an_interval_without_0(low: float, high: float, verdict: str) -> None:
    finding = Finding(EXPECTED, "shapes", Summary((low + high) / 2, 1.0, low, high, 3), 2)
    assert finding.verdict == verdict
    assert "lower in 2 of 3 seeds" in finding.text()


@pytest.mark.parametrize(("floor", "verdict"), [(0.0, "supported"), (0.1, "supported"), (0.11, "undecided")])
def test_a_floor_above_half_of_the_difference_decides_nothing(floor: float, verdict: str) -> None:
    """A content change of 0.5 against 0.3, two seeds each, with an interval that leaves out 0: the reader may misread 0.1."""
    rows = {("old", 0): 0.5, ("old", 1): 0.5, ("new", 0): 0.3, ("new", 1): 0.3}
    measured = [
        Measured(
            arm,
            seed,
            1,
            {
                "content_change": Value(value, value, value, "p"),
                "content_change_floor": Value(floor if arm == "new" else 0, 0, 1, "p"),
            },
        )
        for (arm, seed), value in rows.items()
    ]
    setting = SettingFound(Setting("s", "r", {"old": Arm(), "new": Arm()}, Protocol()), tuple(measured), {}, frozenset(), ())
    found = setting.finding(Expectation("new", "old", "content_change"))
    assert found.floor == floor and found.verdict == verdict
    assert ("the floor 0.11 is above half of the difference" in found.text()) == (verdict == "undecided")
    assert setting.finding(EXPECTED).floor is None and found.difference is not None and found.difference.high < 0


def test_a_number_stands_for_an_arm_that_has_it_in_every_seed() -> None:
    rows = {("new", 0): 1.0, ("new", 1): 2.0, ("new", 2): 3.0, ("old", 0): 9.0}
    measured = [
        Measured(arm, seed, 1, {"control_effect": Value(value, value, value, "p")}) for (arm, seed), value in rows.items()
    ]
    setting = Setting("s", "r", {"old": Arm(), "new": Arm()}, Protocol())
    above = SettingFound(setting, tuple(measured), {}, frozenset(), ())
    effect = Expectation("new", 0, "control_effect", "higher")
    found = above.finding(effect)
    assert found.difference == over_seeds(list(above.at_end("new", "control_effect").values()))
    assert found.difference is not None and found.difference.low < 0
    assert "new against 0 (expected higher): higher in 3 of 3 seeds, difference 2 [" in found.text()
    assert found.text().endswith("over seeds; undecided") and found.relative is None
    assert above.finding(Expectation("new", 2.5, "control_effect", "higher")).seeds_as_claimed == 1
    study = Study("a", "b", "c", "d", "e", (effect, Expectation("gone", 0, "control_effect")), {"tiny": [setting]})
    assert [each.expectation for each in StudyFound(study, "tiny", (above,)).findings] == [effect]


@pytest.mark.parametrize(("floor", "verdict"), [(0.1, "supported"), (0.3, "undecided")])
def test_a_number_has_no_floor_of_its_own(floor: float, verdict: str) -> None:
    values = {"content_change": Value(0.5, 0.4, 0.6, "p"), "content_change_floor": Value(floor, 0, 1, "p")}
    setting = SettingFound(Setting("s", "r", {"new": Arm()}, Protocol()), (Measured("new", 0, 1, values),), {}, frozenset(), ())
    found = setting.finding(Expectation("new", 0, "content_change", "higher"))
    assert found.floor == floor and found.verdict == verdict


def test_a_claim_of_higher_turns_the_verdict() -> None:
    higher = Expectation("new", "old", "agreement", "higher")
    assert Finding(higher, "shapes", Summary(1.5, 1.0, 1.0, 2.0, 3)).verdict == "supported"


@pytest.mark.parametrize(("expected", "count"), [("lower", 1), ("higher", 2)])
def test_seeds_are_counted_on_the_side_the_claim_expects(expected: Literal["lower", "higher"], count: int) -> None:
    rows = [(1.0, 2.0), (4.0, 3.0), (6.0, 5.0), (7.0, 7.0)]  # an equal pair is on neither side
    measured = [
        Measured(arm, seed, 64, {"fid": Value(value, value, value, "p")}, {}, {}, "q")
        for seed, pair in enumerate(rows)
        for arm, value in zip(("new", "old"), pair, strict=True)
    ]
    setting = Setting("shapes", "demo", {"new": Arm(), "old": Arm()}, Protocol())
    finding = SettingFound(setting, tuple(measured), {}, frozenset(), ()).finding(Expectation("new", "old", "fid", expected))
    assert f"{expected} in {count} of 4 seeds" in finding.text()


def test_results_come_back_from_the_disk(tmp_path: Path) -> None:
    found = [Measured("new", 1, 64, {"fid": Value(1.0, 0.5, 1.5, "p")}, {"kid": "too few"}, {}, "q")]
    write_measured(tmp_path / "measured.json", found)
    assert read_measured(tmp_path / "measured.json") == found and read_measured(tmp_path / "none.json") == []
    (tmp_path / "measured.json").write_text('[{"arm": "new"}]')
    with pytest.raises(ConfigError, match="cannot be read"):
        read_measured(tmp_path / "measured.json")
