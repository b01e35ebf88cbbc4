"""One part of several of the pictures of an evaluation, collected by a task of its own: `--task 3/16`, then `--join`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_ldm.commands.evaluate.pictures import GivenPictures, SampledPictures
from open_ldm.core.counted import counted
from open_ldm.core.distributed import World
from open_ldm.core.errors import ConfigError
from open_ldm.core.hashes import hash_content, hash_tensors
from open_ldm.core.shown import ShownAsText
from open_ldm.core.tasks import Task
from open_ldm.data.content import read_fingerprint
from open_ldm.evaluation.parts import PartFolder
from open_ldm.evaluation.pictures import BATCH_SIZE
from open_ldm.evaluation.statistics import BANK_CAPACITY

FOLDER = "evaluation-parts"


@dataclass(frozen=True)
class PartCollected(ShownAsText):
    """What `--task` leaves: the part's number of how many, how many pictures it holds, and the folder of all parts."""

    task: Task
    pictures: int
    folder: Path

    def text(self) -> str:
        """'part 3 of 16: 3,125 pictures, kept in runs/a/evaluation-parts/0a1b; when all are there: the same with --join'."""
        part = f"part {self.task.number} of {self.task.count}: {counted(self.pictures, 'picture')}, kept in {self.folder}"
        return f"{part}; when all are there: the same command with --join in place of --task"

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"part": self.task.number, "of": self.task.count, "pictures": self.pictures, "folder": str(self.folder)}


@dataclass(frozen=True)
class Parts:
    """How the pictures of an evaluation are divided, and where what was collected of them is kept.

    Attributes:
        folder: Where; None where nothing is kept.
        task: Which task this is; None where one command measures all.
        join: Whether they were collected before, by tasks.
    """

    folder: Path | None
    task: Task | None = None
    join: bool = False

    def __post_init__(self) -> None:
        if self.folder is None and (self.task is not None or self.join):
            raise ConfigError("--task and --join need a folder for the parts", fix="--out FOLDER")

    def share(self, world: World) -> World:
        """This process among those of all tasks, for dividing the pictures; it is connected to none."""
        before, tasks = (0, 1) if self.task is None else (self.task.number - 1, self.task.count)
        return World(before * world.size + world.rank, tasks * world.size)

    def root(self, pictures: SampledPictures | GivenPictures, extractors: list[Any]) -> Path | None:
        """Folder of the parts of these pictures by these extractors."""
        if self.folder is None:
            return None
        return self.folder / FOLDER / hash_content([identity(pictures), extractors])[:16]

    def own(self, root: Path | None, world: World) -> PartFolder | None:
        """Where this process keeps what it collects."""
        share = self.share(world)
        return None if root is None else PartFolder(root, share.rank + 1, share.size)


def identity(pictures: SampledPictures | GivenPictures) -> dict[str, Any]:
    """What decides which pictures they are, as plain data."""
    data = pictures.data if isinstance(pictures, SampledPictures) else pictures.source
    content: dict[str, Any] = {
        "count": len(pictures),
        "size": list(pictures.size_px),
        "data": read_fingerprint(data),
    }
    if isinstance(pictures, SampledPictures):
        weights = hash_tensors(pictures.run.model.state_dict())
        batch = pictures.settings.batch_size  # so many make a batch, and batches are counted
        return {**content, "weights": weights, "sampling": dict(pictures.sampling), "batch": batch}
    return content


def require_enough(pictures: SampledPictures | GivenPictures, shares: int) -> None:
    """Raise ConfigError for more shares than there are batches of pictures: some would be empty."""
    batch = pictures.settings.batch_size if isinstance(pictures, SampledPictures) else BATCH_SIZE
    most = -(-len(pictures) // batch)
    if shares > most:
        raise ConfigError(
            f"{shares:,} tasks (times processes) for {len(pictures):,} pictures in batches of {batch:,}",
            needed=f"at most {most:,}",
            fix="fewer tasks, or a smaller sampling.batch_size",
        )


def capacity_of(pictures: SampledPictures | GivenPictures) -> int:
    """How many single pictures an evaluation keeps."""
    return max(BANK_CAPACITY, len(pictures))
