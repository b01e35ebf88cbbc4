"""Guidance away from what a training never shows is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from open_ldm.runs.guidance_notes import guidance_notes
from open_ldm.runs.recipe import load_recipe
from tests.runs.tiny import tiny_recipe

DROPS = ("conditioning.control_drop=0", "conditioning.semantic_drop=0")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (("sampling.guidance={semantic_scale: 3}",), []),
        ((*DROPS, "sampling.guidance={semantic_scale: 1}"), []),
        ((*DROPS, "sampling.guidance={semantic_scale: 3}"), ["semantic_drop", "control_drop"]),
        ((*DROPS, "sampling.guidance={semantic_scale: 3, keep_controls: true}"), ["semantic_drop"]),
        ((DROPS[0], "sampling.guidance={semantic_scale: 1, control_scale: 2}"), ["control_drop"]),
        ((*DROPS, "conditioning.controls=[]", "sampling.guidance={semantic_scale: 3}"), ["semantic_drop"]),
    ],
)
def test_guidance_away_from_what_is_never_trained_is_told(tmp_path: Path, changes: tuple[str, ...], told: list[str]) -> None:
    notes = guidance_notes(load_recipe(str(tiny_recipe(tmp_path)), changes))
    assert [next(each for each in ("semantic_drop", "control_drop") if each in note) for note in notes] == told
