"""Statistics of a part of the pictures, kept in a folder: on the way, so that a killed process goes on, and for `--join`.

NUMBER-of-COUNT/part.json              batches that were taken in, whether these were all, and its own hash
NUMBER-of-COUNT/BATCHES-K/, all-K/     the statistics of extractor K after so many batches, or all (reference.py)
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from open_ldm.core.errors import DataError, shortened
from open_ldm.core.files import write_json
from open_ldm.core.hashes import hash_content
from open_ldm.core.plain_data import parse_json
from open_ldm.evaluation.bank import Rows
from open_ldm.evaluation.reference import load_statistics, read_portions, save_statistics
from open_ldm.evaluation.statistics import Statistics, merged_statistics

KEPT_EVERY_SECONDS = 600.0
_STATE = "part.json"


class PartFolder:
    """Keeps what one process has collected; see `statistics.Kept`.

    Attributes:
        batches: Batches that were taken in before this process began, which it does not make again.
        whole: Whether these were all.
        before: What was collected of them.

    Args:
        root: Folder of all parts of one set of pictures by the same extractors.
        number: Which part, from 1 to `count`.
        count: Number of parts.
    """

    def __init__(self, root: Path, number: int, count: int) -> None:
        self.path = root / f"{number}-of-{count}"
        self.batches, self.whole = 0, False
        self.before: tuple[Statistics, ...] = ()
        self._last = time.monotonic()
        state = read_state(self.path)
        if state is not None:
            try:
                self.before = tuple(load_statistics(each) for each in state.folders)
                self.batches, self.whole = state.batches, state.whole
            except DataError:
                self.before = ()  # damaged: it is made again

    @property
    def pictures(self) -> int:
        """Number of pictures that were kept."""
        return self.before[0].pictures.count if self.before else 0

    @property
    def due(self) -> bool:
        """Whether ten minutes have passed since it was kept."""
        return time.monotonic() - self._last >= KEPT_EVERY_SECONDS

    def keep(self, statistics: Sequence[Statistics], batches: int = 0, *, whole: bool = False) -> None:
        """Write the statistics, then part.json, which names them; older ones are removed. Raises DiskError."""
        state = PartState(self.path, self.batches + batches, len(statistics), whole)
        for folder, each in zip(state.folders, statistics, strict=True):
            save_statistics(folder, each)
        content = {"batches": state.batches, "extractors": len(statistics), "whole": whole}
        write_json(self.path / _STATE, {**content, "sha256": hash_content(content)})
        for old in self.path.iterdir():
            if old.is_dir() and old not in state.folders:
                shutil.rmtree(old)
        if whole:
            self.before, self.whole = tuple(statistics), True
        self._last = time.monotonic()

    def remove(self) -> None:
        """Remove what was kept, once it is needed no more, and the folders around it that are empty then."""
        shutil.rmtree(self.path, ignore_errors=True)
        with suppress(OSError):  # one that is not empty
            self.path.parent.rmdir()
            self.path.parent.parent.rmdir()


class PartState:
    """What part.json says: batches taken in, whether that was all, and the folders of the statistics."""

    def __init__(self, path: Path, batches: int, extractors: int, whole: bool) -> None:
        self.batches, self.whole = batches, whole
        self.folders = [path / f"{'all' if whole else batches}-{number}" for number in range(extractors)]


@dataclass(frozen=True)
class PartsLeft:
    """Parts that lie in a folder.

    Attributes:
        folder: The folder of all sets of pictures.
        whole: Parts that are whole, which `--join` reads.
        begun: Parts from which an evaluation that was stopped or killed would go on.
        bytes: Of all of them.
    """

    folder: Path
    whole: int
    begun: int
    bytes: int

    def sentence(self) -> str:
        """'1.20 GB of parts of evaluations lie in runs/a/evaluation-parts: 16 that --join reads, 3 that ...'."""
        size = f"{self.bytes / 1e9:.2f} GB" if self.bytes >= 1e9 else f"{self.bytes / 1e6:.1f} MB"
        kinds = [f"{self.whole:,} that --join reads"] if self.whole else []
        kinds += [f"{self.begun:,} of evaluations that were not finished"] if self.begun else []
        return f"{size} of parts lie in {self.folder}: {', '.join(kinds)}; delete that folder once neither is wanted"


def parts_left(folder: Path) -> PartsLeft | None:
    """Look at what lies in the folder of all sets of pictures; None where there is no part."""
    found = [path for path in folder.glob("*/*-of-*") if path.is_dir()]
    if not found:
        return None
    states = [read_state(path) for path in found]
    whole = sum(state is not None and state.whole for state in states)
    size = 0
    for file in folder.rglob("*"):
        with suppress(OSError):  # a job of an array may be at work there
            size += file.stat().st_size if file.is_file() else 0
    return PartsLeft(folder, whole, len(found) - whole, size)


def read_state(path: Path) -> PartState | None:
    """Read part.json of a part; None where there is none, or a damaged one."""
    try:
        content = parse_json((path / _STATE).read_text(encoding="utf-8"))
        if content.pop("sha256") != hash_content(content):
            return None
        return PartState(path, int(content["batches"]), int(content["extractors"]), bool(content["whole"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def join_parts(root: Path, extractors: int, capacity: int) -> tuple[Statistics, ...]:
    """Join the parts of a set of pictures, one after the other: memory is that of one, without its rows, and of the result.

    Args:
        root: Their folder.
        extractors: Number of extractors.
        capacity: How many single pictures are kept.

    Raises:
        DataError: Parts are missing or not whole; the error names them.
    """
    states = _whole_parts(root)
    return tuple(
        merged_statistics((_without_rows(state.folders[number]) for state in states), capacity) for number in range(extractors)
    )


def _without_rows(folder: Path) -> tuple[Statistics, Iterator[Rows]]:
    return load_statistics(folder, rows=False), read_portions(folder)


def _whole_parts(root: Path) -> list[PartState]:
    found = [re.fullmatch(r"(\d+)-of-(\d+)", path.name) for path in root.glob("*-of-*")]
    counts = sorted({int(name[2]) for name in found if name is not None}, reverse=True)
    if not counts:
        raise DataError(f"{root} holds no parts", needed="those of --task 1/n to n/n", fix="the same command with --task i/n")
    lacking: list[str] = []
    for count in counts:
        states = [read_state(root / f"{number}-of-{count}") for number in range(1, count + 1)]
        whole = [state for state in states if state is not None and state.whole]
        if len(whole) == count:
            return whole
        lacking = [f"{at}/{count}" for at, state in enumerate(states, start=1) if state is None or not state.whole]
    raise DataError(f"parts {shortened(lacking, 6)} are not there", fix="the same command with --task, for each of them")
