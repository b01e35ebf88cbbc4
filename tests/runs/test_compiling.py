"""A run settles at its start on whether its blocks are compiled, says so, and keeps to it when it goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from open_ldm.runs.recipe import load_recipe
from open_ldm.runs.train import train
from open_ldm.training.compiled import Compiler
from tests.runs.tiny import losses, tiny_recipe
from tests.training.test_compiled import as_written, none_here, wrong


def run(folder: Path, samples: int, *changes: str) -> dict[str, Any]:
    """Train, and read the newest manifest."""
    length = [f"training.samples={samples}", "training.checkpoint_every_samples=8", "preview.count=1"]
    small = ["conditioning.controls=[]", "sampling.steps=1", "denoiser.depth=1"]
    train(load_recipe(str(tiny_recipe(folder)), [*length, *small, *changes]), folder / "run")
    newest = max((folder / "run" / "checkpoints").iterdir())
    content: dict[str, Any] = json.loads((newest / "MANIFEST.json").read_text())
    return content


def backend(monkeypatch: pytest.MonkeyPatch, made: Any) -> None:
    monkeypatch.setattr("open_ldm.training.trainer.Compiler", lambda: Compiler(made))


def test_what_a_run_settled_on_stays_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    backend(monkeypatch, as_written)
    first = run(tmp_path, 8, "training.compile=on")
    said = capsys.readouterr().err
    assert "1 blocks compiled as 1 graphs in" in said and "each compared with the same as written" in said
    assert "attention: " in said
    assert first["settled"] == {"compile": True} and first["fingerprint"]["compile"] == "blocks"

    monkeypatch.setattr("open_ldm.runs.compiling.wants_compiled", lambda *_: pytest.fail("a settled run asks again"))
    second = run(tmp_path, 16, "training.compile=on")
    said = capsys.readouterr().err
    assert second["settled"] == {"compile": True} and "bitwise: yes" in said and "compared" not in said

    backend(monkeypatch, none_here)  # another machine: it goes on, says so, and does not forget
    third = run(tmp_path, 24, "training.compile=on")
    said = capsys.readouterr().err
    assert "(no C++ compiler was found); training goes on uncompiled" in said and "bitwise: no (compile blocks→?)" in said
    assert third["settled"] == {"compile": True} and "compile" not in third["fingerprint"]
    assert [seen for seen, _ in losses(tmp_path / "run")] == [4, 8, 12, 16, 20, 24]


def test_a_wrong_compiler_is_settled_once_and_a_changed_setting_asks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    backend(monkeypatch, wrong)
    first = run(tmp_path, 8, "training.compile=on")
    assert "JointBlock is wrong: output 0 is off by" in capsys.readouterr().err
    assert "settled" not in first and "compile" not in first["fingerprint"]
    backend(monkeypatch, as_written)
    assert "settled" not in run(tmp_path, 16, "training.compile=on")
    assert "settled" not in run(tmp_path, 24, "training.compile=off")
    assert run(tmp_path, 32, "training.compile=on")["settled"] == {"compile": True}
