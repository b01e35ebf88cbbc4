"""`ldm evaluate fit-features`: a finished fit stays, an interrupted one is kept and goes on."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from open_ldm.commands import fit_features as command
from open_ldm.commands.fit_features import fit_features
from open_ldm.core.errors import ConfigError, StoppedError
from open_ldm.core.events import Progress
from open_ldm.evaluation.features import classifier_fit
from open_ldm.sources.loader import DataConfig
from tests.cli.conftest import ldm
from tests.runs.tiny import TINY, tiny_recipe
from tests.studies.small import FIT

KEPT = ".unfinished.safetensors"
DATA = DataConfig.model_validate(TINY["data"])
GIVEN = ["network.size_px=16", "network.width=8", "network.dim=8", "pictures=64", "batch_size=16", "held_out=0.3"]


def never(*given: object, **options: object) -> None:
    raise AssertionError("it was fitted before")


def stop_at(pictures: int, monkeypatch: pytest.MonkeyPatch, number: int = signal.SIGTERM) -> list[int]:
    """Send a signal once so many pictures were shown; returns where the numbers of those that are shown go."""
    shown: list[int] = []

    def update(progress: Progress, done: int, **facts: Any) -> None:
        shown.append(done)
        if done == pictures and len(shown) * 16 == pictures:
            signal.raise_signal(number)

    monkeypatch.setattr(Progress, "update", update)
    return shown


def test_a_finished_fit_is_taken_as_it_is(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["evaluate", "fit-features", tiny_recipe(tmp_path), *GIVEN, "--out", tmp_path / "f"]
    code, out, _ = ldm(capsys, *words)
    assert code == 0 and "already there" not in out
    monkeypatch.setattr(command, "fit", never)
    code, again, _ = ldm(capsys, *words)
    assert code == 0 and again == f"already there: {out}"
    code, out, _ = ldm(capsys, *words, "--json")
    assert code == 0 and json.loads(out)["was_there"] is True


def test_other_settings_or_data_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit_features(DATA, tmp_path, FIT, silent=True)
    monkeypatch.setattr(command, "fit", never)
    other = FIT.model_copy(update={"pictures": 96, "column": "colour"})
    with pytest.raises(ConfigError, match=r"fitted with column=None \(now colour\), pictures=64 \(now 96\); .*another --out"):
        fit_features(DATA, tmp_path, other, silent=True)
    fewer = DATA.model_copy(update={"source": DATA.source.model_copy(update={"length": 49})})
    with pytest.raises(ConfigError, match="fitted with other data"):
        fit_features(fewer, tmp_path, FIT, silent=True)
    monkeypatch.undo()
    longer = FIT.model_copy(update={"pictures": 96})
    assert not fit_features(DATA, tmp_path, longer, silent=True, replace=True).was_there


def test_a_damaged_classifier_is_fitted_again(tmp_path: Path) -> None:
    whole = fit_features(DATA, tmp_path, FIT, silent=True)
    (tmp_path / "classifier.safetensors").write_bytes(b"0")
    again = fit_features(DATA, tmp_path, FIT, silent=True)
    assert not again.was_there and again.sha256 == whole.sha256


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_keeps_the_fit_and_the_same_command_goes_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    whole = fit_features(DATA, tmp_path / "whole", FIT, silent=True)
    words = ["evaluate", "fit-features", tiny_recipe(tmp_path), *GIVEN, "--out", tmp_path / "f", "--json"]
    shown = stop_at(32, monkeypatch, number)
    code, out, _ = ldm(capsys, *words)
    said = f"stopped by {signal.Signals(number).name} and saved; fix: the same command goes on"
    assert code == 75 and json.loads(out)["error"] == said and shown == [16, 32] and (tmp_path / "f" / KEPT).is_file()
    code, out, _ = ldm(capsys, *words)
    assert code == 0 and shown == [16, 32, 48, 64], "what was kept is gone on with"
    assert json.loads(out)["sha256"] == whole.sha256 and not (tmp_path / "f" / KEPT).exists()


def test_a_stop_while_the_accuracy_is_measured_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = classifier_fit._accuracy

    def stopped(*given: Any) -> float:
        signal.raise_signal(signal.SIGTERM)
        return measured(*given)

    with monkeypatch.context() as patched:
        patched.setattr(classifier_fit, "_accuracy", stopped)
        with pytest.raises(StoppedError, match="stopped by SIGTERM and saved"):
            fit_features(DATA, tmp_path, FIT, silent=True)
    shown = stop_at(0, monkeypatch)
    assert not fit_features(DATA, tmp_path, FIT, silent=True).was_there and not shown


def test_a_run_folder_is_no_place_for_it(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").touch()
    with pytest.raises(ConfigError, match="is the folder of a training run"):
        fit_features(DATA, tmp_path, FIT, silent=True)
