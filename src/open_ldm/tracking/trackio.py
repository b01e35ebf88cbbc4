"""Trackio: a table on this machine, shown by `trackio show`, or a Space."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, ClassVar, Literal
from uuid import uuid4

from pydantic import Field, PrivateAttr

from open_ldm.core.config import flattened
from open_ldm.core.extras import need
from open_ldm.tracking.base import TrackedRun, Tracker


class Trackio(Tracker):
    """Without `space` everything stays on this machine, in the folder TRACKIO_DIR.

    Attributes:
        project: Name under which runs are compared.
        space: Of the Hugging Face Hub, such as "me/curves", to which rows are sent; null sends nothing.
    """

    kind: Literal["trackio"] = "trackio"
    library: ClassVar[str] = "trackio"
    project: str = Field(default="open-ldm", min_length=1)
    space: str | None = None
    _run: Any = PrivateAttr(None)

    @property
    def place(self) -> str:
        """The command that shows it, or the Space."""
        return self.space or f"trackio show --project {self.project}"

    def begin(self, run: TrackedRun) -> str:
        """Go on with the run of that name: Trackio begins a second one of the same name unless it is told to resume."""
        trackio = need("trackio", extra="track")
        name = run.id or f"{run.name}-{uuid4().hex[:6]}"  # a run is known by its name alone
        config = {**flattened(dict(run.recipe)), "commit": run.commit}
        with redirect_stdout(io.StringIO()):  # standard output is for results
            self._run = trackio.init(
                project=self.project,
                name=name,
                space_id=self.space,
                config=config,
                resume="allow",
                embed=False,
                auto_log_cpu=False,
                auto_log_gpu=False,
            )
        return name

    def held(self) -> Mapping[str, int] | None:
        """Return the last steps in the table: rows are written twice a second, so a kill may lose some. None for a Space."""
        if self.space is not None:
            return None
        table = need("trackio.sqlite_storage", extra="track").SQLiteStorage
        last: dict[str, int] = {}
        for row in table.get_logs(self.project, self._run.name, run_id=self._run.id):
            last |= {name: max(last.get(name, -1), int(row["step"])) for name in row}
        return last

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Add a row."""
        self._run.log(dict(values), step=step)

    def picture(self, step: int, name: str, file: Path, captions: Sequence[str]) -> None:
        """Add a row with a picture."""
        trackio = need("trackio", extra="track")
        caption = "\n".join(captions) if any(captions) else None
        self._run.log({name: trackio.Image(str(file), caption=caption)}, step=step)

    def end(self, code: int | None) -> None:
        """Write what waits."""
        with redirect_stdout(io.StringIO()):
            need("trackio", extra="track").finish()  # the run's own method leaves it to be finished again at exit
