"""An average of another length as a run folder of its own, for `ldm sample`, `ldm evaluate` and whatever else takes a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_ldm.checkpoints.checkpoint import CheckpointFolder
from open_ldm.checkpoints.names import run_folder_of
from open_ldm.core.config import to_yaml
from open_ldm.core.errors import ConfigError
from open_ldm.core.files import write_bytes
from open_ldm.core.new_folder import new_folder, require_new
from open_ldm.model.knowledge import Knowledge
from open_ldm.run_folder.folder import RunFolder
from open_ldm.runs.averages import make_average, require_length

FAR = 0.05
"""Above this error a line says that more snapshots are needed."""


@dataclass(frozen=True)
class WrittenAverage:
    """An average that was written.

    Attributes:
        folder: A run folder.
        length: Of the average, as a share of the training.
        checkpoint: The name of the run's checkpoint at which it ends.
        snapshots: How many were there besides.
        error: As `power_ema.Combination`.
        problems: One line for each checkpoint or snapshot that was passed over.
    """

    folder: Path
    length: float
    checkpoint: str
    snapshots: int
    error: float
    problems: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "run": str(self.folder),
            "length": self.length,
            "checkpoint": self.checkpoint,
            "snapshots": self.snapshots,
            "error": self.error,
            "problems": list(self.problems),
        }

    def text(self) -> str:
        """Return it for people."""
        far = "; the run kept too few snapshots for it (training.ema.snapshot_every_samples)" if self.error > FAR else ""
        return (
            f"{self.folder}: average of length {self.length:g} at {self.checkpoint}, of {self.snapshots} snapshots;"
            f" its shares are {self.error:.2g} from those wanted{far}"
        )


def require_averages(lengths: Sequence[float], folders: Sequence[Path]) -> None:
    """Refuse averages of which one could not be written, before any is.

    Args:
        lengths: As shares of the training.
        folders: The run folders to make, one for each.

    Raises:
        ConfigError: There is no such length, two are one folder, or a folder is in use.
    """
    for number, (length, folder) in enumerate(zip(lengths, folders, strict=True)):
        require_length(length)
        require_new(folder)
        if folder in folders[:number]:
            raise ConfigError(f"length {length:g} was given twice", needed=f"one, as both make {folder}")


def write_average(run: Path, length: float, out: Path) -> WrittenAverage:
    """Write the average of a length of a run that kept two averages by powers.

    Args:
        run: A run folder, or one checkpoint inside it.
        length: Of the average, as a share of the training.
        out: The run folder to make.

    Raises:
        ConfigError: `out` is in use, or the run did not keep two averages.
        CheckpointError: Nothing verifies.
        DiskError: The disk refuses.
    """
    require_new(out)
    made = make_average(run, length)
    content = made.checkpoint.content
    about = {
        "length": length,
        "of": made.checkpoint.path.name,
        "sha256": made.checkpoint.short_hash,
        "snapshots": made.snapshots,
        "error": made.combination.error,
    }
    manifest = {"recipe": content["recipe"], **Knowledge.from_json(content).to_json(), "average": about}
    with new_folder(out) as temporary:
        folder = RunFolder(temporary)
        CheckpointFolder(folder.checkpoints).save(int(content["samples_seen"]), {"ema": made.tensors}, manifest)
        folder.write_config(to_yaml(made.recipe))
        surveyed = RunFolder(run_folder_of(made.checkpoint.path)).data
        if surveyed.is_file():  # what values of controls the run saw
            write_bytes(folder.data, surveyed.read_bytes())
    found = made.combination.error
    return WrittenAverage(out, length, made.checkpoint.path.name, made.snapshots, found, made.problems)
