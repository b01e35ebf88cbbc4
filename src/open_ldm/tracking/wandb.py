"""W&B: rows in a folder of the run (offline, for `wandb sync`), and on a server where one is logged in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal
from uuid import uuid4

from pydantic import Field, PrivateAttr

from open_ldm.core.config import flattened
from open_ldm.core.extras import need
from open_ldm.tracking.base import TrackedRun, Tracker
from open_ldm.tracking.wandb_files import last_steps

CLOCK = "samples_seen"
"""The axis of every curve: a row added later, such as an evaluation of an older checkpoint, has a step of its own behind it."""
_WAIT_SECONDS = 30.0


class Wandb(Tracker):
    """One run of W&B for one run folder, whichever process trains it.

    Attributes:
        project: Name under which runs are compared.
        entity: User or team; null takes the one that is logged in.
        mode: "online" sends, "offline" keeps rows in RUN/wandb for `wandb sync`; null goes by WANDB_MODE, else online.
    """

    kind: Literal["wandb"] = "wandb"
    library: ClassVar[str] = "wandb"
    project: str = Field(default="open-ldm", min_length=1)
    entity: str | None = None
    mode: Literal["online", "offline"] | None = None
    _run: Any = PrivateAttr(None)
    _held: Mapping[str, int] | int = PrivateAttr({})
    _begins_after: int = PrivateAttr(-1)
    _last: int = PrivateAttr(-1)

    @property
    def place(self) -> str:
        """The page, or the command that sends what was kept."""
        if self._run is None:
            return ""
        pieces = Path(self._run.dir).parents[1]
        return f"wandb sync {pieces}/offline-run-*" if self._run.offline else str(self._run.url)

    def begin(self, run: TrackedRun) -> str:
        """Go on with the run of that id; a question about the login, on a terminal, waits half a minute for its answer."""
        wandb = need("wandb", extra="track")
        name = run.id or uuid4().hex[:12]
        self._run = wandb.init(
            project=self.project,
            entity=self.entity,
            id=name,
            name=run.name,
            dir=str(run.folder),
            mode=self.mode,
            resume="allow",
            config={**flattened(dict(run.recipe)), "commit": run.commit},
            settings=wandb.Settings(silent=True, console="off", init_timeout=_WAIT_SECONDS, login_timeout=_WAIT_SECONDS),
        )
        self._run.define_metric("*", step_metric=CLOCK)
        if self._run.offline:
            self._begins_after, self._held = last_steps(run.folder / "wandb", name, CLOCK)
        else:
            self._begins_after = self._held = int(self._run.step) - 1
        self._last = self._begins_after
        return name

    def held(self) -> Mapping[str, int] | int:
        """Return the last steps in the files, or the last one on the server: a kill loses the rows of the last half minute."""
        return self._held

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Log a row; one whose step goes back, or was written by an earlier process, would be dropped: it gets the next one and
        its true clock."""
        self._log(step, values)

    def picture(self, step: int, name: str, file: Path, captions: Sequence[str]) -> None:
        """Log a row with a picture."""
        wandb = need("wandb", extra="track")
        self._log(step, {name: wandb.Image(str(file), caption="\n".join(captions) if any(captions) else None)})

    def end(self, code: int | None) -> None:
        """Write what waits, and wait for the server where there is one."""
        self._run.finish(exit_code=0 if code in (0, 75) else 1)

    def _log(self, step: int, values: Mapping[str, Any]) -> None:
        self._last = step if step >= self._last and step > self._begins_after else self._last + 1
        self._run.log({**values, CLOCK: step}, step=self._last)
