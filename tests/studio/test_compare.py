"""What differs between recipes, pictures at equal seeds, and a vote that tells nobody which model is which."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from open_ldm.core.errors import ConfigError
from open_ldm.studio.compare import (
    Compared,
    ComparedModel,
    CompareRequest,
    Vote,
    compare,
    differences,
    pairs_of,
    tally,
    voted,
    votes_csv,
)
from open_ldm.studio.models import Models
from open_ldm.studio.play import PlayRequest, play
from tests.studio.conftest import job

PROMPTS = tuple(f"a red circle {number}" for number in range(16))


def found() -> Compared:
    request = CompareRequest(models=("a", "b"), prompts=PROMPTS, seed=3)
    models = tuple(ComparedModel(name, tuple(f"{name}{row}".encode() for row in range(16))) for name in ("a", "b"))
    return Compared(request, models)


def test_only_the_settings_that_differ_are_named(models: Models) -> None:
    rows = {one.setting: one.values for one in differences(models.playable())}
    assert rows["conditioning.controls.original_size.gate.kind"] == ("constant", "power_cosine")
    assert rows["conditioning.controls.flip.kind"] == ("–", "flip")
    assert "training.samples" not in rows and "name" not in rows


def test_the_same_prompts_and_seed_from_every_run(models: Models, classes: Path) -> None:
    both = Models([*models.paths.values(), classes], "cpu")
    request = CompareRequest(models=("entangled", "improved", "classes"), prompts=("a red circle",), seed=7)
    one, two, three = compare(both, request, job()).models
    assert (one.model, two.model) == ("entangled", "improved") and one.pngs != two.pngs
    alone = play(both, PlayRequest(model="improved", prompt="a red circle", seed=7), job())
    assert two.pngs[0] == alone.pictures[0].png
    assert not three.pngs and "class" in three.problem


def test_sides_are_mixed_and_the_same_every_time() -> None:
    pairs = pairs_of(found(), "a", "b")
    sides = [pair.left for pair in pairs]
    assert {"a", "b"} == set(sides) and pairs == pairs_of(found(), "a", "b")
    assert all(pair.left_png == f"{pair.left}{row}".encode() for row, pair in enumerate(pairs))
    with pytest.raises(ConfigError, match="two different"):
        pairs_of(found(), "a", "a")
    with pytest.raises(ConfigError, match="two different"):
        pairs_of(found(), "a", "/etc/passwd")


def test_votes_are_counted_and_written_as_csv() -> None:
    pairs = pairs_of(found(), "a", "b")
    votes = [voted(pairs[0], "left"), voted(pairs[1], "right"), voted(pairs[2], "equal")]
    rows = list(csv.DictReader(io.StringIO(votes_csv(votes))))
    assert [row["preferred"] for row in rows] == [pairs[0].left, pairs[1].right, "equal"]
    assert sum(tally(votes).values()) == 3 and tally(votes)["equal"] == 1
    with pytest.raises(ConfigError, match="no vote"):
        voted(pairs[0], "both")


def test_a_prompt_cannot_become_a_formula_of_a_spreadsheet() -> None:
    request = CompareRequest(models=("a", "b"), prompts=("=1+1",))
    models = tuple(ComparedModel(name, (b"x",)) for name in ("a", "b"))
    (pair,) = pairs_of(Compared(request, models), "a", "b")
    assert votes_csv([Vote(pair, "left")]).splitlines()[1].startswith("'=1+1,")
