"""Checkpoints: a folder of safetensors and one manifest, written whole or not at all, verified before use.

Protocol (docs/reliability.md, 3.5 and 3.6): write to a temporary folder, fsync every file, hash it, write the
manifest with a hash of itself, fsync, rename, fsync the parent. Only then are older ones removed. Nothing is ever pickled.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from open_ldm.checkpoints.files import (
    MANIFEST,
    MANIFEST_SHA256,
    SCHEMA,
    describe,
    read_group,
    read_into,
    read_manifest,
    sha256_of_content,
)
from open_ldm.checkpoints.names import PREFIX, is_checkpoint, samples_seen_of
from open_ldm.core.errors import CheckpointError, DiskError
from open_ldm.core.files import fsync_path, hash_file, obey_umask, require_space, write_json

Preferred = Callable[[int], bool]
REQUIRED = ("recipe", "counters", "facts", "latent_stats", "model", "ema", "optimizer")
"""What a checkpoint must hold for a run to go on: entries of the manifest, and groups of tensors."""
FOR_SAMPLING = ("recipe", "facts", "latent_stats", "ema")
"""What sampling needs, and all that imported weights have."""


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint.

    Attributes:
        path: Its folder.
        files: Tensors by group (model, ema, optimizer) and name, as far as they were read.
        content: The manifest.
    """

    path: Path
    files: Mapping[str, Mapping[str, Tensor]]
    content: Mapping[str, Any]

    def read_into(self, group: str, tensors: Mapping[str, Tensor]) -> None:
        """Read a group from the disk into tensors, whole ones or shards, of each only the part that this process holds.

        Raises:
            CheckpointError: The group holds other tensors than these.
        """
        read_into(self.path, group, self.content["files"][group], tensors)

    @property
    def short_hash(self) -> str:
        """Some digits of the manifest's SHA-256, which names every byte of the checkpoint."""
        return sha256_of_content(self.content)[:12]


@dataclass(frozen=True)
class Saved:
    """What a save wrote, and its size."""

    path: Path
    bytes: int


class CheckpointFolder:
    """The `checkpoints/` folder of a run.

    Args:
        root: The folder.
        keep: How many of the newest checkpoints stay, those that were found damaged not counted.
        required: What a checkpoint must hold, as for `load_checkpoint`.
    """

    def __init__(self, root: Path, keep: int = 2, required: tuple[str, ...] = REQUIRED) -> None:
        self.root = root
        self.keep = keep
        self.required = required
        self._damaged: set[str] = set()

    def names(self) -> list[str]:
        """List the names of all finished checkpoints, newest first, verified or not."""
        if not self.root.is_dir():
            return []
        return sorted((entry.name for entry in self.root.iterdir() if is_checkpoint(entry)), reverse=True)

    def save(self, samples_seen: int, files: Mapping[str, Mapping[str, Tensor]], content: Mapping[str, Any]) -> Saved:
        """Write one checkpoint, then remove those older than the newest `keep`.

        Args:
            samples_seen: Names the checkpoint.
            files: Tensors by group and name.
            content: Further entries of the manifest, plain JSON data.

        Returns:
            Where it lies, and its size in bytes.

        Raises:
            DiskError: The disk refuses; older checkpoints are untouched then.
        """
        final, temporary = self._paths(samples_seen)
        with disk_errors(final, temporary):
            self._begin(temporary, files)
            described = {name: _write_group(temporary / f"{name}.safetensors", group) for name, group in files.items()}
            return self._publish(temporary, final, {"samples_seen": samples_seen, **content, "files": described})

    def _paths(self, samples_seen: int) -> tuple[Path, Path]:
        """Where a checkpoint lies in the end, and where it is written."""
        final = self.root / f"{PREFIX}{samples_seen:012d}"
        return final, self.root / f".tmp-{final.name}-{uuid.uuid4().hex[:8]}"

    def _begin(self, temporary: Path, files: Mapping[str, Mapping[str, Tensor]]) -> None:
        for remaining in self.root.glob(".tmp-*"):  # of killed saves
            shutil.rmtree(remaining, ignore_errors=True)
        require_space(self.root, sum(tensor.nbytes for group in files.values() for tensor in group.values()))
        temporary.mkdir(parents=True)

    def _publish(self, temporary: Path, final: Path, content: Mapping[str, Any]) -> Saved:
        """Write the manifest, rename the folder, and remove what is too old."""
        manifest = json.loads(json.dumps({"schema": SCHEMA, **content}))  # what is hashed must be what will be read back
        write_json(temporary / MANIFEST, {**manifest, MANIFEST_SHA256: sha256_of_content(manifest)})
        for folder in (*filter(Path.is_dir, temporary.iterdir()), temporary):
            fsync_path(folder)
        if final.exists():  # it did not verify, or the run would have gone on from it
            remove_checkpoint(final)
        temporary.rename(final)
        fsync_path(self.root)
        self._damaged.discard(final.name)
        self._prune(final.name)
        return Saved(final, sum(entry["bytes"] for entry in manifest["files"].values()))

    def names_by(self, preferred: Preferred | None) -> list[str]:
        """List names as `names` does, those first whose samples seen are preferred."""
        return sorted(self.names(), key=lambda name: preferred is not None and not preferred(samples_seen_of(name)))

    def newest(
        self, groups: tuple[str, ...] | None = None, preferred: Preferred | None = None
    ) -> tuple[Checkpoint | None, list[str]]:
        """Load the newest checkpoint that verifies.

        Args:
            groups: As for `load_checkpoint`.
            preferred: Of samples seen; others are looked at where no such checkpoint verifies.

        Returns:
            The checkpoint, and one line for each before it that does not verify; (None, []) when there are none at all.

        Raises:
            CheckpointError: There are some and none verifies.
        """
        problems: list[str] = []
        for name in self.names_by(preferred):
            try:
                checkpoint = load_checkpoint(self.root / name, groups, self.required)
                self._damaged.discard(name)
                return checkpoint, problems
            except CheckpointError as error:
                self._damaged.add(name)
                problems.append(error.one_line())
        if problems:
            raise self._none_verifies(problems)
        return None, []

    def _none_verifies(self, problems: list[str]) -> CheckpointError:
        return CheckpointError(
            f"no checkpoint in {self.root} verifies ({problems[0]})",
            fix="restore one from a copy, or train anew with another --out",
        )

    def _prune(self, just_written: str) -> None:
        """Remove what is older than the newest `keep` that are good as far as is known; never the one just written."""
        good = 0
        for name in self.names():
            if good >= self.keep and name != just_written:
                remove_checkpoint(self.root / name)
            good += name not in self._damaged


def load_checkpoint(path: Path, groups: tuple[str, ...] | None = None, required: tuple[str, ...] = REQUIRED) -> Checkpoint:
    """Read a checkpoint after checking sizes, SHA-256, inventory and finiteness.

    Args:
        path: Its folder.
        groups: Which groups of tensors to read; None reads all. The others are not touched.
        required: Entries that the manifest must have, and groups that it must list, read or not.

    Returns:
        The checkpoint, on the CPU.

    Raises:
        CheckpointError: Something is missing or damaged; the error names it.
    """
    content = read_manifest(path, required)
    files = {
        name: read_group(path, name, described)
        for name, described in content["files"].items()
        if groups is None or name in groups
    }
    return Checkpoint(path, files, content)


@contextmanager
def disk_errors(final: Path, temporary: Path) -> Iterator[None]:
    """Context manager that removes what was half written where the disk refuses, and says so in one line.

    Args:
        final: Where the checkpoint should have been.
        temporary: Where it was being written.

    Raises:
        DiskError: The disk refused.
    """
    try:
        yield
    except (OSError, DiskError, SafetensorError) as error:  # safetensors reports a full disk as an error of its own
        shutil.rmtree(temporary, ignore_errors=True)
        raise DiskError.of(
            f"checkpoint {final} could not be written",
            error,
            fix="free disk space or fix the permissions, then run the same command again",
        ) from error


def _write_group(path: Path, group: Mapping[str, Tensor]) -> dict[str, Any]:
    tensors = {name: tensor.detach().contiguous() for name, tensor in group.items()}
    save_file(tensors, path)
    obey_umask(path)
    fsync_path(path)
    return {"bytes": path.stat().st_size, "sha256": hash_file(path), "tensors": describe(tensors)}


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint's folder, manifest first, so that a half-removed one never verifies."""
    (path / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)
