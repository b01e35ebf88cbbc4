"""benchmarks/gpu_paper.py: how its limit is divided, and how it goes on. What it trains is not trained here (--toy does)."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from open_ldm.core.errors import StoppedError
from open_ldm.core.signals import StopRequest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
PACE = {"samples_per_second": 5120.0, "start_seconds": 5.0}


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """benchmarks/gpu_paper.py, imported anew."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu_paper

    yield gpu_paper
    for name in ("gpu", "gpu_paper", "gpu_paper_sizes"):
        sys.modules.pop(name, None)


def begun(paper: ModuleType, left: float, *asked: float | None) -> Any:
    """At full size, after the pace was measured."""
    results = SimpleNamespace(found={"pace": PACE}, done=lambda name: name == "pace")
    return paper.Paper(paper.FULL, "", results, time.perf_counter() + left, *asked)


def test_trainings_get_the_same_share_of_what_is_left(paper: ModuleType) -> None:
    assert paper.share_of(570, [90, 90, 90, 300], apart=0) == 1
    assert paper.share_of(385, [90, 90, 90, 300], apart=100) == 0.5
    assert paper.share_of(50, [90], apart=100) == 0
    arms = begun(paper, 520).plan_arms(None)  # 520 less 3 x 25 and 60 for evaluations and 4 x 5 for starts: 365 of 570 s
    assert arms["training_seconds"] == pytest.approx(90 * 365 / 570, abs=0.1)
    assert arms["samples"] % 256 == 0 and arms["samples"] == pytest.approx(5120 * 90 * 365 / 570, abs=512)
    arms_take = 3 * (arms["training_seconds"] + 25 + 5)
    run = begun(paper, 520 - arms_take).plan_run(None)
    assert run["training_seconds"] == pytest.approx(300 * 365 / 570, abs=0.3)
    assert arms_take + run["training_seconds"] + 60 + 5 <= 520.5
    assert begun(paper, 5000).plan_run(None)["training_seconds"] == 300


def test_nothing_is_trained_for_a_fraction_and_what_is_asked_for_stays(paper: ModuleType) -> None:
    assert "36 s of 90 s" in begun(paper, 383).plan_arms(None)["left_out"]
    assert "100 s of 300 s" in begun(paper, 165).plan_run(None)["left_out"]
    assert begun(paper, 165, 90, 300).plan_arms(None)["samples"] == 90 * 5120
    assert begun(paper, 165, 90, 300).plan_run(None)["samples"] == 300 * 5120


class Trained:
    """Stands for trainings, fits and evaluations: what was called, and when a training is cut off."""

    def __init__(self, cut: str = "") -> None:
        self.called: list[str] = []
        self.cut = cut

    def train(self, recipe: Any, run: Path, silent: bool) -> SimpleNamespace:
        self.called.append(f"train {run.name} {recipe.training.samples}")
        return SimpleNamespace(code=75 if run.name == self.cut else 0, samples_seen=32)

    def evaluate(self, run: Path, *_: object, **__: object) -> SimpleNamespace:
        self.called.append(f"evaluate {run.name}")
        return SimpleNamespace(results=[], refused={})


def test_the_same_command_goes_on_with_what_is_not_done(
    paper: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(*more: str, cut: str = "") -> tuple[int, list[str], dict[str, Any]]:
        stub = Trained(cut)
        monkeypatch.setattr(paper, "train", stub.train)
        monkeypatch.setattr(paper, "evaluate", stub.evaluate)
        monkeypatch.setattr(paper, "fit_features", lambda *_, **__: SimpleNamespace(accuracy=0.5, tested=10))
        monkeypatch.setattr(paper, "speed_of", lambda run: {"samples_per_second": 3200.0, "data_wait_share": 0.0})
        code = paper.main(["--out", str(tmp_path), "--toy", *more])
        return code, stub.called, json.loads((tmp_path / "RESULTS.json").read_text())

    code, called, found = call(cut="alpha-2")
    assert code == 75 and called == ["train pace 320", "train constant 12800", "evaluate constant", "train alpha-2 12800"]
    assert "32 of 12,800 samples" in found["alpha 2/trained"]["left_out"] and "plan/by class" not in found
    code, called, found = call()  # what is done, the plan of the arms too, stays
    assert code == 0 and called[:2] == ["train alpha-2 12800", "evaluate alpha-2"]
    assert called[2:] == ["train alpha-8-on-t 12800", "evaluate alpha-8-on-t", "train by-class 12800", "evaluate by-class"]
    assert not any({"left_out", "failed"} & set(cell) for cell in found.values())
    assert call()[:2] == (0, [])
    with pytest.raises(SystemExit, match="arm_seconds None"):
        call("--arm-seconds", "9")


def test_what_takes_too_long_is_asked_to_save(paper: ModuleType) -> None:
    with paper.stopped_after(0.05), StopRequest() as stop, pytest.raises(StoppedError):
        until = time.perf_counter() + 5
        while time.perf_counter() < until:
            time.sleep(0.01)
            stop.raise_if_requested()
    with paper.stopped_after(60):
        os.kill(os.getpid(), signal.SIGUSR1)  # between two trainings it ends nothing


def test_the_limit_holds_where_a_cell_takes_its_error_for_another(paper: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    import gpu

    monkeypatch.setattr(gpu, "ONCE_MORE_SECONDS", 0.05)
    with pytest.raises(TimeoutError), gpu.ended_after(0.05):
        with suppress(OSError):
            time.sleep(5)
        time.sleep(5)
