"""An option that takes one value is not given two."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import ldm


@pytest.mark.parametrize(
    "given, said",
    [
        (("train", "demo", "--out", "a", "--out", "b"), "--out is given 2 times: a, b"),
        (("sample", "run", "--count", "3", "--count=4", "--prompt", "x", "--prompt", "y"), "--count is given 2 times: 3, 4"),
        (("evaluate", "run", "--n", "5", "--n", "6", "--n", "5"), "--n is given 3 times: 5, 6, 5"),
        (("evaluate", "fit-features", "x", "--out", "a", "--out", "b"), "--out is given 2 times: a, b"),
        (("data", "index", "x", "--task", "1/2", "--task", "2/2"), "--task is given 2 times: 1/2, 2/2"),
    ],
)
def test_two_values_for_one_option_are_refused(capsys: pytest.CaptureFixture[str], given: tuple[str, ...], said: str) -> None:
    code, _, err = ldm(capsys, *given)
    assert code == 2 and said in err and "needed: one value" in err


def test_the_same_value_twice_and_options_of_many_values_pass(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Each ends at what is really wrong: a recipe that is not there."""
    for given in (("--out", tmp_path / "a", "--out", tmp_path / "a"), ("--json", "--json"), ("--dry-run", "--dry-run")):
        code, out, err = ldm(capsys, "train", "no-such-recipe", *given)
        assert code == 2 and "no-such-recipe" in out + err
    code, _, err = ldm(capsys, "speedrun", "no-such-recipe", "--with", "training.seed=1", "--with", "training.samples=8")
    assert code == 2 and "no-such-recipe" in err


def test_a_value_that_looks_like_an_option_is_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, err = ldm(capsys, "sample", tmp_path / "none", "--prompt=--count=3", "--count", "4")
    assert code == 2 and "times" not in err
