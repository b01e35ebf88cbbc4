"""Checkpoints: a folder of safetensors and one manifest, written whole or not at all, verified before use.

Protocol (docs/reliability.md, 3.5 and 3.6): write to a temporary folder, fsync every file, hash it, write the
manifest with a hash of itself, fsync, rename, fsync the parent. Only then are older ones removed. Nothing is ever pickled.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from open_ldm.core.distributed import World
from open_ldm.core.errors import CheckpointError, DiskError, cut
from open_ldm.core.files import fsync_path, hash_file, obey_umask, require_space, write_json
from open_ldm.core.plain_data import parse_json
from open_ldm.model.manifest_check import check_manifest

MANIFEST = "MANIFEST.json"
MANIFEST_SHA256 = "manifest_sha256"
SCHEMA = 1
PREFIX = "samples-"
REQUIRED = ("recipe", "counters", "facts", "latent_stats", "model", "ema", "optimizer")
"""What a checkpoint must hold for a run to go on: entries of the manifest, and groups of tensors."""
FOR_SAMPLING = ("recipe", "facts", "latent_stats", "ema")
"""What sampling needs, and all that imported weights have."""

_NAME = re.compile(PREFIX + "[0-9]{12}")
_OF_A_FILE = frozenset({"bytes", "sha256", "tensors"})


def is_checkpoint(path: Path) -> bool:
    """Whether a path has the name of one checkpoint. A run folder may begin with the same word: `samples-of-cats` is none."""
    return _NAME.fullmatch(path.name) is not None


def samples_seen_of(name: str) -> int:
    """Return the samples seen that the name of a checkpoint states."""
    return int(name.removeprefix(PREFIX))


def run_folder_of(path: Path) -> Path:
    """Return the run folder that a path belongs to.

    Args:
        path: A run folder, or one of its checkpoints, RUN/checkpoints/samples-NUMBER.

    Returns:
        RUN.
    """
    return path.parent.parent if is_checkpoint(path) else path


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
        return sorted((entry.name for entry in self.root.iterdir() if _NAME.fullmatch(entry.name)), reverse=True)

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
        final = self.root / f"{PREFIX}{samples_seen:012d}"
        temporary = self.root / f".tmp-{final.name}-{uuid.uuid4().hex[:8]}"
        try:
            self._remove_remaining()
            require_space(self.root, sum(tensor.nbytes for group in files.values() for tensor in group.values()))
            temporary.mkdir(parents=True)
            described = {name: _write_group(temporary / f"{name}.safetensors", group) for name, group in files.items()}
            manifest = {"schema": SCHEMA, "samples_seen": samples_seen, **content, "files": described}
            manifest = json.loads(json.dumps(manifest))  # what is hashed must be what will be read back
            write_json(temporary / MANIFEST, {**manifest, MANIFEST_SHA256: _sha256_of_content(manifest)})
            fsync_path(temporary)
            if final.exists():  # it did not verify, or the run would have gone on from it
                _remove(final)
            temporary.rename(final)
            fsync_path(self.root)
        except (OSError, DiskError, SafetensorError) as error:  # safetensors reports a full disk as an error of its own
            shutil.rmtree(temporary, ignore_errors=True)
            raise DiskError.of(
                f"checkpoint {final} could not be written",
                error,
                fix="free disk space or fix the permissions, then run the same command again",
            ) from error
        self._damaged.discard(final.name)
        self._prune(final.name)
        return Saved(final, sum(entry["bytes"] for entry in described.values()))

    def newest(self, groups: tuple[str, ...] | None = None) -> tuple[Checkpoint | None, list[str]]:
        """Load the newest checkpoint that verifies.

        Args:
            groups: As for `load_checkpoint`.

        Returns:
            The checkpoint, and one line for each newer one that does not verify; (None, []) when there are none at all.

        Raises:
            CheckpointError: There are some and none verifies.
        """
        problems: list[str] = []
        for name in self.names():
            try:
                checkpoint = load_checkpoint(self.root / name, groups, self.required)
                self._damaged.discard(name)
                return checkpoint, problems
            except CheckpointError as error:
                self._damaged.add(name)
                problems.append(error.one_line())
        if problems:
            raise CheckpointError(
                f"no checkpoint in {self.root} verifies ({problems[0]})",
                fix="restore one from a copy, or train anew with another --out",
            )
        return None, []

    def newest_of_all(self, world: World) -> tuple[Checkpoint | None, list[str]]:
        """Load the newest checkpoint that verifies, the same for all processes; returns and errors as `newest`."""
        checkpoint, problems = self.newest()
        found = "none" if checkpoint is None else f"{checkpoint.path.name} {_sha256_of_content(checkpoint.content)[:12]}"
        world.agreed("checkpoint", found, CheckpointError, fix=f"make {self.root} the same everywhere, or share one disk")
        return checkpoint, problems

    def _prune(self, just_written: str) -> None:
        """Remove what is older than the newest `keep` that are good as far as is known; never the one just written."""
        good = 0
        for name in self.names():
            if good >= self.keep and name != just_written:
                _remove(self.root / name)
            good += name not in self._damaged

    def _remove_remaining(self) -> None:
        """Remove the temporary folders of killed saves."""
        for remaining in self.root.glob(".tmp-*"):
            shutil.rmtree(remaining, ignore_errors=True)


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
    content = _read_manifest(path)
    if missing := [name for name in required if name not in content and name not in content["files"]]:
        raise CheckpointError(f"{path.name}: {MANIFEST} lacks {', '.join(missing)}")
    check_manifest(content, path.name, samples_seen_of(path.name) if is_checkpoint(path) else None, required)
    files = {}
    for name, described in content["files"].items():
        if groups is None or name in groups:
            try:
                files[name] = _read_group(path / f"{name}.safetensors", described)
            except (OSError, KeyError, TypeError, AttributeError, SafetensorError) as error:
                raise CheckpointError(f"{path.name}: {name} or its entry in {MANIFEST} is damaged") from error
    return Checkpoint(path, files, content)


def _write_group(path: Path, group: Mapping[str, Tensor]) -> dict[str, Any]:
    tensors = {name: tensor.detach().contiguous() for name, tensor in group.items()}
    save_file(tensors, path)
    obey_umask(path)
    fsync_path(path)
    return {
        "bytes": path.stat().st_size,
        "sha256": hash_file(path),
        "tensors": {name: _described(tensor) for name, tensor in tensors.items()},
    }


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        content = parse_json((path / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path.name}: {MANIFEST} is missing or damaged ({cut(str(error), 80)})") from error
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        raise CheckpointError(f"{path.name}: {MANIFEST} has schema {schema!r:.60}", needed=f"schema {SCHEMA}")
    if content.pop(MANIFEST_SHA256, None) != _sha256_of_content(content):
        raise CheckpointError(f"{path.name}: {MANIFEST} is damaged: its SHA-256 differs from the one it states")
    _check_files(path, content.get("files"))
    return dict(content)


def _sha256_of_content(content: Mapping[str, Any]) -> str:
    """SHA-256 of canonical JSON: sorted keys, no spaces, ASCII."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _check_files(path: Path, files: Any) -> None:
    if not isinstance(files, dict):
        raise CheckpointError(f"{path.name}: {MANIFEST} lists no files")
    for name, described in files.items():
        if not isinstance(described, dict) or _OF_A_FILE - described.keys():
            raise CheckpointError(f"{path.name}: {MANIFEST} does not describe {name}", needed=", ".join(sorted(_OF_A_FILE)))


def _read_group(path: Path, described: Mapping[str, Any]) -> dict[str, Tensor]:
    where = f"{path.parent.name}/{path.name}"
    if not path.is_file():
        raise CheckpointError(f"{where} is missing")
    if path.stat().st_size != described["bytes"]:
        raise CheckpointError(f"{where} has {path.stat().st_size} bytes", needed=f"{described['bytes']}")
    if hash_file(path) != described["sha256"]:
        raise CheckpointError(f"{where} is damaged: its SHA-256 differs from the manifest's")
    tensors: dict[str, Tensor] = load_file(path)
    inventory = described["tensors"]
    if odd := sorted(tensors.keys() ^ inventory.keys()):
        raise CheckpointError(f"{where}: tensor {odd[0]} is missing or not in the manifest")
    for name, tensor in tensors.items():
        if _described(tensor) != inventory[name]:
            raise CheckpointError(f"{where}: tensor {name} has another shape or dtype than the manifest says")
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise CheckpointError(f"{where}: tensor {name} holds NaN or infinity")
    return tensors


def _described(tensor: Tensor) -> dict[str, Any]:
    return {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}


def _remove(path: Path) -> None:
    """Remove a checkpoint, manifest first, so that a half-removed one never verifies."""
    (path / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)
