"""The share of a peak is the model's operations over those that the devices could do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from open_ldm.core.device import Machine, device_memory, forget_most_memory, most_memory
from open_ldm.core.events import ProgressLine, read_events
from open_ldm.model.count import count_model
from open_ldm.runs import reach
from open_ldm.runs.reach import Reach
from open_ldm.runs.recipe import load_recipe
from open_ldm.runs.train import train
from tests.helpers import small_model
from tests.runs.tiny import tiny_recipe
from tests.training.small_run import CONDITIONING

SPEC = small_model(conditioning=CONDITIONING).spec
CPU = Machine(torch.device("cpu"), torch.float32)


def test_a_share_of_the_peak_is_counted_over_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = SPEC
    operations = 6e9 * count_model(spec, (8, 8)).gmacs
    monkeypatch.setattr(reach, "peak_speed", lambda machine: 100 * operations)
    assert Reach(spec, (8, 8), CPU, 1, True).share(30) == pytest.approx(0.3)
    assert Reach(spec, (8, 8), CPU, 2, True).share(30) == pytest.approx(0.15)
    assert Reach(spec, (8, 8), CPU, 1, False).share(30) is None


def test_the_first_report_says_time_and_memory() -> None:
    said = Reach(SPEC, (8, 8), CPU, 1, False, "micro-batch 2 of 4").sentence(2.0, 400)
    assert said.startswith("about 3 min 20 s left") and said.endswith("; micro-batch 2 of 4")
    taken, whole = most_memory(CPU.device), device_memory(CPU.device)
    if taken is not None and whole is not None:
        assert 0 < taken < whole and f"memory {taken / 1e9:.1f}"[:-1] in said


def test_the_live_line_says_the_share() -> None:
    assert "31 % of peak" in ProgressLine("train", 1, 4, rate=2.0, peak_share=0.312).text()
    assert "peak" not in ProgressLine("train", 1, 4, rate=2.0).text()


def test_a_watched_run_writes_its_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reach, "peak_speed", lambda machine: 1e12)
    train(load_recipe(str(tiny_recipe(tmp_path)), ["training.samples=8", "preview.count=1"]), tmp_path / "run")
    shares = [event.number("peak_share") for event in read_events(tmp_path / "run" / "events.jsonl") if event.name == "train"]
    assert len(shares) == 2 and all(share is not None and 0 <= share < 1 for share in shares)
    shown = capsys.readouterr().err
    assert shown.count(" left; memory ") == 1 and "% of peak" in shown


def test_the_most_memory_is_that_of_training_alone() -> None:
    large = torch.ones(100_000_000)
    with_it = most_memory(CPU.device)
    del large
    forget_most_memory(CPU.device)
    without = most_memory(CPU.device)
    if with_it is None or without is None or without == with_it:
        pytest.skip("this system does not tell, or does not forget")
    assert with_it - without > 300_000_000
