"""The checkpoints of a run of several processes, which write and verify them together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from open_ldm.checkpoints.checkpoint import REQUIRED, Checkpoint, CheckpointFolder, Preferred, Saved, disk_errors
from open_ldm.checkpoints.files import check_share, describe_parts, read_manifest
from open_ldm.core.distributed import World
from open_ldm.core.errors import CheckpointError, DiskError
from open_ldm.core.failure import Failure


class SharedCheckpoints(CheckpointFolder):
    """The `checkpoints/` folder of a run that several processes may train.

    Args:
        root: As for `CheckpointFolder`, like `keep` and `required`; a disk that all processes share.
        world: The processes. In a world of one all is as in `CheckpointFolder`.
    """

    def __init__(self, root: Path, world: World, keep: int = 2, required: tuple[str, ...] = REQUIRED) -> None:
        super().__init__(root, keep, required)
        self.world = world

    def save_of_all(
        self, samples_seen: int, files: Mapping[str, Mapping[str, Tensor]], content: Mapping[str, Any], *, shards: bool
    ) -> Saved:
        """Write one checkpoint; every process calls this with what it has.

        Args:
            samples_seen: As for `save`, like `files`, `content` and what is returned.
            files: Tensors by group and name, in shards or whole.
            content: Further entries of the manifest; those of the leading process count.
            shards: Each process writes and hashes its own shards. Otherwise the leading one writes all, in the layout of a run
                of one process.

        Raises:
            DiskError: A disk refuses, the same error on every process; older checkpoints are untouched then.
        """
        if not shards or self.world.size == 1:
            return self.world.everyone(lambda: self.save(samples_seen, files, content), "a checkpoint")
        final, temporary = self.world.everyone(lambda: self._begun(samples_seen, files), "the folder of a checkpoint")
        parts = self.world.gathered(self._written(final, temporary, files), "the parts of a checkpoint")
        described = {
            name: describe_parts(tensors, {file: facts for each in parts for file, facts in each[name].items()})
            for name, tensors in files.items()
        }
        manifest = {"samples_seen": samples_seen, **content, "files": described}
        return self.world.everyone(lambda: self._published(final, temporary, manifest), "the end of a checkpoint")

    def newest_of_all(self, preferred: Preferred | None = None) -> tuple[Checkpoint | None, list[str]]:
        """Find the newest checkpoint that verifies, the same for all processes; `preferred`, returns and errors as `newest`.

        Several processes share the work of verifying, and no tensor is read yet: each reads what it needs by `read_into`.
        """
        if self.world.size == 1:
            return self.newest(preferred=preferred)
        problems: list[str] = []
        for name in self.names_by(preferred):
            checkpoint, problem = self._checked_by_all(name)
            if not problem:
                self._damaged.discard(name)
                return checkpoint, problems
            self._damaged.add(name)
            problems.append(problem)
        self._agree("none")
        if problems:
            raise Failure.of(self._none_verifies(problems)).error()
        return None, []

    def _checked_by_all(self, name: str) -> tuple[Checkpoint | None, str]:
        """A checkpoint without its tensors, and what is wrong with it in any process's share of its files."""
        try:
            checkpoint, problem = Checkpoint(self.root / name, {}, read_manifest(self.root / name, self.required)), ""
        except CheckpointError as error:
            checkpoint, problem = None, error.one_line()
        self._agree(f"{name} {'damaged' if checkpoint is None else checkpoint.short_hash}")
        if checkpoint is not None:
            try:
                check_share(checkpoint.path, checkpoint.content, self.world.rank, self.world.size)
            except CheckpointError as error:
                problem = error.one_line()
        told = self.world.gathered(problem, "the look at a checkpoint")
        return checkpoint, next((each for each in told if each), "")

    def _agree(self, found: str) -> None:
        fix = "make the checkpoints of the run the same everywhere, or share one disk"
        self.world.agreed("checkpoint", found, CheckpointError, fix)

    def _begun(self, samples_seen: int, files: Mapping[str, Mapping[str, Tensor]]) -> tuple[Path, Path]:
        final, temporary = self._paths(samples_seen)
        with disk_errors(final, temporary):
            self._begin(temporary, files)
        return final, temporary

    def _written(self, final: Path, temporary: Path, files: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Any]:
        """Size and hash of each file that this process wrote, by group."""
        from open_ldm.checkpoints.shards import write_shards  # it takes seconds to import

        try:
            with disk_errors(final, temporary), self.world.waiting("a checkpoint"):
                return {name: write_shards(temporary / name, group, self.world.control) for name, group in files.items()}
        except DiskError as error:  # the same one on every process
            raise Failure.of(error).error() from error

    def _published(self, final: Path, temporary: Path, manifest: Mapping[str, Any]) -> Saved:
        with disk_errors(final, temporary):
            return self._publish(temporary, final, manifest)
