"""TensorBoard: event files in the run folder, read by `tensorboard --logdir runs`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import yaml
from PIL import Image
from pydantic import PrivateAttr

from open_ldm.core.extras import need
from open_ldm.tracking.base import TrackedRun, Tracker

FOLDER = "tensorboard"
"""Inside the run folder; each process of the run adds a file to it."""
_PREFIX = "events.out.tfevents."


class TensorBoard(Tracker):
    """Every report is flushed, so that a killed process loses none that was sent."""

    kind: Literal["tensorboard"] = "tensorboard"
    library: ClassVar[str] = "tensorboard"
    _writer: Any = PrivateAttr(None)
    _folder: Path | None = PrivateAttr(None)
    _held: Mapping[str, int] = PrivateAttr({})

    @property
    def place(self) -> str:
        """The command that shows it."""
        return "" if self._folder is None else f"tensorboard --logdir {self._folder}"

    def begin(self, run: TrackedRun) -> str:
        """Open a new file; the recipe and the commit are written once. The run is known by the name of its first file."""
        need("tensorboard", extra="track")
        from torch.utils.tensorboard import SummaryWriter

        self._folder = run.folder / FOLDER
        before = _files(self._folder)
        self._held = _last_steps([file for file in before if run.again and _begun(file.name) >= _begun(run.id)])
        self._writer = SummaryWriter(str(self._folder))
        self._writer.flush()
        if not run.again:
            recipe = yaml.safe_dump(dict(run.recipe), sort_keys=False, allow_unicode=True)
            self._writer.add_text("recipe", f"```yaml\n{recipe}```", 0)
            self._writer.add_text("commit", run.commit or "none", 0)
            self._writer.flush()
        return run.id or next(file.name for file in _files(self._folder) if file not in before)

    def held(self) -> Mapping[str, int]:
        """Return the last step of each curve in the files of the run."""
        return self._held

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write one point of each curve."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def picture(self, step: int, name: str, file: Path, captions: Sequence[str]) -> None:
        """Write a picture, and its captions as a list."""
        with Image.open(file, formats=("PNG",)) as opened:
            self._writer.add_image(name, np.asarray(opened.convert("RGB")), step, dataformats="HWC")
        if any(captions):
            self._writer.add_text(f"{name}/captions", "\n".join(f"1. {caption}" for caption in captions), step)
        self._writer.flush()

    def end(self, code: int | None) -> None:
        """Close the file."""
        self._writer.close()


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{_PREFIX}*"))


def _begun(name: str) -> str:
    """When a file was begun: files of a training that the folder held earlier are older than the run's first.

    Empty, which counts all files, for a run that was known by the folder alone.
    """
    return name.split(".")[3] if name.startswith(_PREFIX) else ""


def _last_steps(files: Sequence[Path]) -> dict[str, int]:
    """Read the last step of each curve; a file ends at the first record that is not whole."""
    loader = need("tensorboard.backend.event_processing.event_file_loader", extra="track").EventFileLoader
    last: dict[str, int] = {}
    for file in files:
        for event in loader(str(file)).Load():
            for value in event.summary.value:
                last[value.tag] = max(last.get(value.tag, -1), event.step)
    return last
