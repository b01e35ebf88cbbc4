"""The loss on held-out pictures during training, which must not change the training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from open_ldm.commands.evaluate.evaluate import evaluate_run
from open_ldm.core.errors import ConfigError
from open_ldm.core.events import read_events
from open_ldm.run_folder.history import HELD_OUT
from open_ldm.runs.recipe import load_recipe
from open_ldm.runs.train import train
from open_ldm.sources.loader import open_data
from tests.runs.tiny import tiny_recipe

HOLDOUT = "data.holdout={share: 0.3}"
MEASURED = "held_out={every_samples: 8, pictures: 6}"


def trained(folder: Path, name: str, *overrides: str) -> Path:
    recipe = load_recipe(str(tiny_recipe(folder)), [HOLDOUT, *overrides])
    assert train(recipe, folder / name, silent=True).code == 0
    return folder / name


def hashes(run: Path) -> dict[str, str]:
    newest = max((run / "checkpoints").iterdir())
    return {name: told["sha256"] for name, told in json.loads((newest / "MANIFEST.json").read_text())["files"].items()}


def measured(run: Path) -> list[tuple[int, float | None]]:
    return [(event.samples_seen, event.number("mean")) for event in read_events(run / "events.jsonl") if event.name == HELD_OUT]


def test_measuring_changes_no_bit_and_a_resumed_run_measures_the_same(tmp_path: Path) -> None:
    plain = trained(tmp_path, "plain", "training.samples=32")
    whole = trained(tmp_path, "whole", MEASURED, "training.samples=32")
    trained(tmp_path, "halves", "training.samples=16")  # the block may be added to a run that is under way
    halves = trained(tmp_path, "halves", MEASURED, "training.samples=32")
    assert hashes(plain) == hashes(whole) == hashes(halves)
    assert [seen for seen, _ in measured(whole)] == [8, 16, 24, 32] and not measured(plain)
    assert measured(halves) == measured(whole)[1:]  # the checkpoint that it goes on from is measured too
    first, last = measured(whole)[0][1], measured(whole)[-1][1]
    assert first is not None and last is not None and first != last
    levels = next(event for event in read_events(whole / "events.jsonl") if event.name == HELD_OUT).fields
    assert levels["prediction"] == "velocity"
    assert len(levels["levels"]) == len(levels["times"]) == 10 and levels["pictures"] == 6
    assert "Held-out pictures" in (whole / "report.html").read_text()
    assert "Held-out pictures" not in (plain / "report.html").read_text()


def test_it_reads_what_training_never_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[set[str]] = []
    from open_ldm.runs import held_out

    really = held_out.read_batches

    def spied(*arguments: object, **named: object) -> object:
        for batch in really(*arguments, **named):  # type: ignore[arg-type]
            read.append(set(batch.ids))
            yield batch

    monkeypatch.setattr(held_out, "read_batches", spied)
    run = trained(tmp_path, "run", MEASURED, "training.samples=16")
    recipe = load_recipe(str(run))
    source, seen = open_data(recipe.data, "held_out"), set().union(*read)
    assert len(read) == 1 and len(seen) == 6  # once, though measured twice
    assert seen <= {source.sample_id(index) for index in range(len(source))}


def test_losses_of_another_schedule_or_other_captions_are_not_compared(tmp_path: Path) -> None:
    def entries(name: str, *overrides: str) -> dict[str, str]:
        run = trained(tmp_path, name, "training.samples=8", *overrides)
        found = evaluate_run(run, None, ["held_out_loss"], cache=None, device="cpu")
        assert found.results[0].protocol.id in (run / "report.html").read_text()
        return dict(found.results[0].protocol.entries)

    plain = entries("plain")
    again = entries("again", "training.seed=1")
    assert {name for name in plain if plain[name] != again[name]} <= {"latents"}  # measured on other pictures
    shifted = entries("shifted", "process.resolution={from_px: 8, to_px: 16}")
    assert plain["schedule"] != shifted["schedule"]
    assert plain["conditions"].startswith("labels ") and plain["conditions"] == shifted["conditions"]


def test_without_a_holdout_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"held_out needs pictures kept from training; needed: data.holdout"):
        load_recipe(str(tiny_recipe(tmp_path)), [MEASURED])
