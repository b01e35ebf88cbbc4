"""The loss that a recipe had when it was run: a band over seeds, small, drawn under a run of the same recipe."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest

from open_ldm.core.errors import DataError
from open_ldm.core.events import EventLog
from open_ldm.run_folder import reference_curve
from open_ldm.run_folder.history import RunHistory, read_history
from open_ldm.run_folder.reference_curve import (
    FOLDER,
    MOST_BYTES,
    ReferenceCurve,
    all_references,
    measured_curve,
    references_of,
    settings_of,
)
from open_ldm.run_folder.report.held_out import held_out_part
from open_ldm.run_folder.report.training import training_part
from open_ldm.runs.catalogue import packaged


def history(folder: Path, name: str, scale: float, levels: tuple[float, ...] | None = (0.1, 0.9)) -> RunHistory:
    run = folder / name
    run.mkdir()
    (run / "config.yaml").write_text("name: demo-improved\n")
    with EventLog(run / "events.jsonl") as log:
        log.write("start", samples_seen=0, argv=["ldm", "train", "x"], device="cpu (1 threads), float32")
        for step in range(1, 6):
            log.write("train", samples_seen=10 * step, loss=scale * step)
        if levels is not None:
            log.write("held_out", samples_seen=50, mean=0.5, times=[0.2, 0.8], levels=[scale * one for one in levels])
    return read_history(run)


def test_the_band_holds_every_seed_and_is_read_back(tmp_path: Path) -> None:
    found = measured_curve([history(tmp_path, "a", 1.0), history(tmp_path, "b", 3.0)], "x", (0, 1), "abc", "2026-11-29")
    assert found.loss.at[0] == 10 and found.loss.at[-1] == 50 and len(found.loss.at) == 60
    for low, mean, high in zip(found.loss.low, found.loss.mean, found.loss.high, strict=True):
        assert high == pytest.approx(3 * low, rel=1e-3) and mean == pytest.approx(2 * low, rel=1e-3)
    assert found.levels is not None and found.levels.mean == pytest.approx((0.2, 1.8))
    assert found.machine == "cpu (1 threads), float32" and "2 seeds" in found.sentence
    assert ReferenceCurve.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_noise_levels_are_left_out_where_a_seed_has_none(tmp_path: Path) -> None:
    found = measured_curve([history(tmp_path, "a", 1.0), history(tmp_path, "b", 3.0, None)], "x", (0, 1), "abc", "today")
    assert found.levels is None and "levels" not in found.to_json()
    with pytest.raises(DataError):
        measured_curve([], "x", (), "abc", "today")


def test_the_report_draws_it_under_a_run_of_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = history(tmp_path, "a", 1.0)
    found = measured_curve([one], "demo-improved", (0,), "abc", "2026-11-29")
    monkeypatch.setattr(reference_curve, "all_references", lambda: (replace(found, settings="other"), found))
    part = training_part(one)
    assert part is not None and found.sentence in part.content.loss.caption
    held_out = held_out_part(one)
    assert held_out is not None and found.sentence in held_out.content[-1].caption, "the loss by noise level has one too"
    changed = replace(one, config={**one.config, "denoiser": {"kind": "dit"}})
    other = training_part(changed)
    assert other is not None and found.sentence not in other.content.loss.caption
    with pytest.raises(DataError, match="more than their seeds"):
        measured_curve([one, changed], "demo-improved", (0, 1), "abc", "2026-11-29")


def test_where_the_data_lie_and_seeds_do_not_decide_the_loss() -> None:
    config = {"data": {"source": {"kind": "folder", "path": "/a"}}, "training": {"seed": 0, "batch_size": 4}}
    elsewhere = {"data": {"source": {"kind": "folder", "path": "/b"}}, "training": {"seed": 1, "batch_size": 4}}
    assert settings_of(config) == settings_of(elsewhere)
    assert settings_of(config) != settings_of({**config, "training": {"seed": 0, "batch_size": 8}})


def test_every_reference_is_of_a_packaged_recipe_and_small() -> None:
    folder = Path(str(resources.files("open_ldm") / FOLDER))
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    for file in files:
        assert file.stat().st_size <= MOST_BYTES
    assert len(all_references()) == len(files) and {one.recipe for one in all_references()} <= set(packaged())


def test_a_recipe_that_was_not_run_has_none() -> None:
    assert references_of("../demo") == references_of("no-such-recipe") == []
