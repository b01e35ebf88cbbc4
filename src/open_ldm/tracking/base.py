"""What a tracker is: a place outside the run folder, such as TensorBoard or W&B, to which the curves of a run are sent too."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from open_ldm.core.config import Config


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told of the run when it begins.

    Attributes:
        name: Of the run folder.
        folder: The run folder.
        id: What `begin` returned when this tracker first saw the run; empty at that time.
        recipe: The resolved recipe as nested plain data.
        commit: Git commit of the folder the training was started in, with "+changes" where files differ; empty without one.
        command: Command line.
    """

    name: str
    folder: Path
    id: str
    recipe: Mapping[str, Any]
    commit: str = ""
    command: tuple[str, ...] = ()

    @property
    def again(self) -> bool:
        """Whether this tracker has seen the run before, in a process that has ended."""
        return bool(self.id)


class Tracker(Config):
    """Base of every tracker. A subclass is its own config; what it holds while it runs goes into private attributes.

    A step is the number of samples that the model has seen. Any method may raise: the tracker is then left alone until the
    run's next process, which sends what was missed, and training goes on.
    """

    kind: str
    library: ClassVar[str] = ""
    """Module that it imports, of the extra [track]."""

    @property
    def place(self) -> str:
        """Where a person looks at it, once it has begun."""
        return ""

    @abstractmethod
    def begin(self, run: TrackedRun) -> str:
        """Begin to track a run, or go on where `run.id` says. Returns the tracker's own name of the run, never empty."""

    def held(self) -> Mapping[str, int] | int | None:
        """Return what is surely kept, once the run has begun, where the tracker can tell.

        Returns:
            The last step of each curve, by its name; curves without one are not there. Or one step for all of them. None goes
            by the run's event log, and by what failed before.
        """
        return None

    @abstractmethod
    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Send numbers of one step, by names such as "train/loss"; all are finite."""

    def picture(self, step: int, name: str, file: Path, captions: Sequence[str]) -> None:
        """Send a PNG file, such as a grid of previews with the captions of its pictures."""

    @abstractmethod
    def end(self, code: int | None) -> None:
        """Flush and close. `code` is the run's exit code, 75 where it goes on later; None where it ends by an error."""
