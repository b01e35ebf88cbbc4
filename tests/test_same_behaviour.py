"""The comparison of two checkouts sees what must not move, and nothing of what may."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
EVENT = {"event": "train", "time": "2026-01-01", "samples_seen": 4, "loss": 0.5, "seconds": 1.0}


@pytest.fixture
def prints(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import same_prints

    yield same_prints
    sys.modules.pop("same_prints", None)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "old"
    folder.mkdir()
    write_tensors(folder)
    (folder / "config.yaml").write_text("name: tiny\ntext: a sentence\n")
    write_events(folder, EVENT)
    write_json(folder, written="now", results=[{"name": "fid", "value": 1.5, "seconds": 3}], refused={"kid": "too few"})
    (folder / "00000.png").write_bytes(b"picture")
    return folder


def write_tensors(folder: Path, value: float = 1.0) -> None:
    save_file({"weight": torch.tensor([value, 2.0]), "bias": torch.zeros(1)}, folder / "model.safetensors")


def write_events(folder: Path, *events: dict[str, Any]) -> None:
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))


def write_json(folder: Path, **content: Any) -> None:
    (folder / "found.json").write_text(json.dumps({"run": str(folder), **content}))


MOVED: dict[str, tuple[Callable[[Path], object], str]] = {
    "one tensor": (lambda folder: write_tensors(folder, 1.0000001), "tensors"),
    "a picture": (lambda folder: (folder / "00000.png").write_bytes(b"Picture"), "pictures"),
    "a loss": (lambda folder: write_events(folder, EVENT | {"loss": 0.25}), "events"),
    "an event's kind": (lambda folder: write_events(folder, EVENT | {"event": "step"}), "events"),
    "an event's key": (lambda folder: write_events(folder, EVENT | {"rate": 1}), "events"),
    "a recipe key": (lambda folder: (folder / "config.yaml").write_text("named: tiny\ntext: a sentence\n"), "config"),
    "a name of a file": (lambda folder: (folder / "report.html").write_text(""), "files"),
    "a number": (lambda folder: write_json(folder, written="now", results=[], refused={"kid": "too few"}), "json"),
    "a key of sentences": (lambda folder: write_json(folder, written="now", results=[], refused={"fid": "too few"}), "json"),
}


@pytest.mark.parametrize("moved", MOVED)
def test_what_must_not_move_is_seen(prints: ModuleType, run: Path, moved: str) -> None:
    new = shutil.copytree(run, run.parent / "new")
    change, kind = MOVED[moved]
    write_json(new, written="now", results=[{"name": "fid", "value": 1.5, "seconds": 3}], refused={"kid": "too few"})
    change(new)
    old, other = prints.facts_of(run), prints.facts_of(new)
    different = [each for each in prints.KINDS if prints.differences_of(old[each], other[each])]
    assert different == [kind]


def test_times_sentences_and_the_folder_may_move(prints: ModuleType, run: Path) -> None:
    new = shutil.copytree(run, run.parent / "new")
    write_events(new, EVENT | {"time": "2027-01-01", "seconds": 2.0})
    write_json(new, written="later", results=[{"name": "fid", "value": 1.5, "seconds": 4}], refused={"kid": "not enough"})
    assert prints.facts_of(new) == prints.facts_of(run)


def test_what_a_kill_lost_is_not_compared(prints: ModuleType, run: Path) -> None:
    lost = [EVENT, EVENT | {"samples_seen": 8, "loss": 0.4}]
    resume = {"event": "resume", "time": "later", "samples_seen": 4, "bitwise": "no (open_ldm 0.1->0.2)"}
    write_events(run, *lost, resume, EVENT | {"samples_seen": 8, "loss": 0.4})
    again = shutil.copytree(run, run.parent / "again")
    write_events(again, EVENT, resume | {"samples_seen": 4, "bitwise": "yes"}, EVENT | {"samples_seen": 8, "loss": 0.4})
    assert prints.facts_of(again)["events"] == prints.facts_of(run)["events"]


def test_words_of_a_help_page_are_its_names(prints: ModuleType) -> None:
    page = """Usage: ldm [OPTIONS] COMMAND [ARGS]...

  Train models; --debug shows more.

Options:
  --out <path>  Folder to write to, or
                --nothing.
  --help        Show this message.

Commands:
  demo     Train a small model.
  inspect  Look.
"""
    words = prints.words_of(page)
    assert words[1:] == ["options --out <path>", "options --help", "commands demo", "commands inspect"]
    assert prints.commands_in(words) == ["demo", "inspect"]
