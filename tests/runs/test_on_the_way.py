"""Samples measured while a run trains, which must not change the training."""

from __future__ import annotations

import itertools
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from open_ldm.core.errors import ConfigError, DataError
from open_ldm.core.events import Event, read_events
from open_ldm.evaluation.features.classifier_fit import FitConfig
from open_ldm.evaluation.features.small_network import SmallNetworkConfig
from open_ldm.evaluation.pictures import Pictures
from open_ldm.run_folder.report.on_the_way import ON_THE_WAY
from open_ldm.runs.on_the_way import OnTheWay
from open_ldm.runs.recipe import load_recipe
from open_ldm.runs.train import train
from tests.runs.test_held_out import HOLDOUT, hashes, trained
from tests.runs.tiny import tiny_recipe

LOOKED = "evaluation={every_samples: 8, pictures: 80}"
FAST = ("sampling.steps=1", "sampling.batch_size=80", "sampling.guidance.semantic_scale=1", "data.source.length=120")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = FitConfig(network=SmallNetworkConfig(size_px=8, width=8, dim=8), pictures=64, batch_size=16)
    monkeypatch.setattr("open_ldm.runs.on_the_way.FIT", quick)


def looked(run: Path) -> list[Event]:
    return [event for event in read_events(run / "events.jsonl") if event.name == ON_THE_WAY]


def numbers(run: Path) -> list[tuple[int, float | None, float | None]]:
    return [(event.samples_seen, event.number("frechet_distance"), event.number("nearer")) for event in looked(run)]


def test_looking_changes_no_bit_and_a_resumed_run_sees_the_same(tmp_path: Path) -> None:
    plain = trained(tmp_path, "plain", *FAST, "training.samples=24")
    whole = trained(tmp_path, "whole", *FAST, LOOKED, "training.samples=24")
    trained(tmp_path, "halves", *FAST, "training.samples=16")  # the block may be added to a run that is under way
    halves = trained(tmp_path, "halves", *FAST, LOOKED, "training.samples=24")
    assert hashes(plain) == hashes(whole) == hashes(halves)
    assert [seen for seen, _, _ in numbers(whole)] == [8, 16, 24] and not looked(plain)
    assert numbers(halves) == numbers(whole)[1:]  # the checkpoint that it goes on from is looked at too
    assert numbers(whole)[0][1:] != numbers(whole)[-1][1:]
    told = looked(whole)[-1]
    assert told.fields["pictures"] == 80 and told.text("against") == "held-out pictures" and told.fields["seconds"] > 0
    assert "small classifier" in told.text("features") and (whole / "features" / "classifier.json").is_file()
    page = (whole / "report.html").read_text()
    assert "Samples on the way" in page and "Samples on the way" not in (plain / "report.html").read_text()
    assert "evaluation" not in load_recipe(str(plain)).model_dump(mode="json")


def test_a_stop_ends_a_look_whose_checkpoint_is_there_and_the_next_start_makes_it_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    often = ("training.checkpoint_every_samples=8", "training.samples=24")
    whole = trained(tmp_path, "whole", *FAST, *often, LOOKED)
    recipe = load_recipe(str(tiny_recipe(tmp_path)), [HOLDOUT, *FAST, *often, LOOKED])
    really, looks, run = OnTheWay._sampled, itertools.count(), tmp_path / "run"

    def stopping(self: OnTheWay) -> Iterator[Pictures]:
        if next(looks) == 1:
            assert (run / "checkpoints" / f"samples-{16:012d}" / "MANIFEST.json").is_file()
            signal.raise_signal(signal.SIGTERM)
        return really(self)

    monkeypatch.setattr(OnTheWay, "_sampled", stopping)
    assert train(recipe, run, silent=True).code == 75
    assert [seen for seen, _, _ in numbers(run)] == [8] and next(looks) == 2
    said = [event.text("message") for event in read_events(run / "events.jsonl") if event.name == "warning"]
    assert "samples were not measured: stopped by SIGTERM" in said[-1], said
    shutil.rmtree(max((run / "checkpoints").iterdir()))  # made by the stop, one update later: as after a kill in the look
    assert train(recipe, run, silent=True).code == 0
    assert numbers(run) == numbers(whole) and hashes(run) == hashes(whole)
    assert train(recipe, run, silent=True).code == 0
    assert numbers(run) == numbers(whole), "nothing is looked at twice"


def test_what_cannot_be_measured_is_told_and_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(_: OnTheWay) -> None:
        raise DataError("the pictures have 5 channels, the extractor reads 3")

    monkeypatch.setattr(OnTheWay, "measure", measure)
    run = trained(tmp_path, "run", *FAST, LOOKED, "training.samples=8")
    assert not looked(run)
    said = [event.text("message") for event in read_events(run / "events.jsonl") if event.name == "warning"]
    assert any("samples were not measured: the pictures have 5 channels" in one for one in said), said


def test_too_few_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"evaluation\.pictures=3"):
        load_recipe(str(tiny_recipe(tmp_path)), [HOLDOUT, "evaluation={every_samples: 8, pictures: 3}"])
