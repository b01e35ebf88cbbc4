"""What the folder of a checkpoint holds, and whether it is what was written: its manifest and the files of its groups.

A group of tensors is one plain safetensors file, or a folder of several that as many processes wrote.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from open_ldm.checkpoints.manifest_check import check_manifest
from open_ldm.checkpoints.names import is_checkpoint, samples_seen_of
from open_ldm.core.errors import CheckpointError, cut
from open_ldm.core.files import hash_file
from open_ldm.core.plain_data import parse_json

MANIFEST = "MANIFEST.json"
MANIFEST_SHA256 = "manifest_sha256"
SCHEMA = 1
PARTS = "parts"
"""Entry of the manifest for a group that several processes wrote: size and hash of each file."""

_OF_A_FILE = frozenset({"bytes", "sha256", "tensors"})
_OF_A_PART = frozenset({"bytes", "sha256"})


def read_manifest(path: Path, required: Sequence[str]) -> dict[str, Any]:
    """Read the manifest of a checkpoint.

    Args:
        path: Folder of the checkpoint.
        required: Entries that it must have, and groups of tensors that it must list.

    Raises:
        CheckpointError: It is missing or damaged, lacks something, or makes no sense.
    """
    try:
        content = parse_json((path / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path.name}: {MANIFEST} is missing or damaged ({cut(str(error), 80)})") from error
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        raise CheckpointError(f"{path.name}: {MANIFEST} has schema {schema!r:.60}", needed=f"schema {SCHEMA}")
    if content.pop(MANIFEST_SHA256, None) != sha256_of_content(content):
        raise CheckpointError(f"{path.name}: {MANIFEST} is damaged: its SHA-256 differs from the one it states")
    _check_files(path, content.get("files"))
    if missing := [name for name in required if name not in content and name not in content["files"]]:
        raise CheckpointError(f"{path.name}: {MANIFEST} lacks {', '.join(missing)}")
    check_manifest(content, path.name, samples_seen_of(path.name) if is_checkpoint(path) else None, required)
    return dict(content)


def sha256_of_content(content: Any) -> str:
    """SHA-256 of canonical JSON: sorted keys, no spaces, ASCII."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def describe(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Any]]:
    """Return shape and dtype of each tensor, as the manifest lists them."""
    return {name: _described(tensor) for name, tensor in tensors.items()}


def describe_parts(tensors: Mapping[str, Tensor], parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the entry of the manifest for a group that several processes wrote.

    Args:
        tensors: Of the group; shards have the shape of the whole tensor.
        parts: Size and hash of each file, by its name.
    """
    size, sha256 = sum(int(part["bytes"]) for part in parts.values()), sha256_of_content(parts)
    return {"bytes": size, "sha256": sha256, "tensors": describe(tensors), PARTS: dict(parts)}


def files_of(path: Path, name: str, described: Mapping[str, Any]) -> dict[Path, Mapping[str, Any]]:
    """List the files of a group, each with its size and hash.

    Args:
        path: Folder of the checkpoint.
        name: Of the group.
        described: Its entry in the manifest.
    """
    if PARTS not in described:
        return {path / f"{name}.safetensors": described}
    return {path / name / part: facts for part, facts in sorted(described[PARTS].items())}


def check_share(path: Path, content: Mapping[str, Any], rank: int, size: int) -> None:
    """Check this process's share of the files of a checkpoint: each is checked by one of the processes.

    Args:
        path: Folder of the checkpoint.
        content: Its manifest.
        rank: Number of this process.
        size: Number of processes.

    Raises:
        CheckpointError: A file is missing or damaged.
    """
    from open_ldm.checkpoints.shards import described_in  # it takes seconds to import

    number = 0
    for name, described in content["files"].items():
        files = files_of(path, name, described)
        with _damage_named(path, name):
            for file, facts in files.items():
                if number % size == rank:
                    _check_file(path, file, facts)
                    if file is next(iter(files)):
                        _check_inventory(path, name, described_in(list(files)), described["tensors"])
                number += 1


def read_group(path: Path, name: str, described: Mapping[str, Any]) -> dict[str, Tensor]:
    """Check the files of a group and read its tensors, whole, on the CPU.

    Raises:
        CheckpointError: Something is missing or damaged; the error names it.
    """
    with _damage_named(path, name):
        files = files_of(path, name, described)
        parts = [_check_file(path, file, facts) for file, facts in files.items()]
        if PARTS not in described:
            _check_inventory(path, name, describe(parts[0]), described["tensors"])
            return parts[0]
        from open_ldm.checkpoints.shards import described_in, read_shards  # they take seconds to import

        _check_inventory(path, name, described_in(list(files)), described["tensors"])
        inventory = described["tensors"].items()
        tensors = {key: torch.empty(each["shape"], dtype=getattr(torch, each["dtype"])) for key, each in inventory}
        read_shards(list(files), tensors)
        return tensors


def read_into(path: Path, name: str, described: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Read a group whose files have been checked into tensors, whole ones or shards, of each only what is needed.

    Raises:
        CheckpointError: The group holds other tensors than these.
    """
    wanted, found = describe(tensors), described["tensors"]
    if odd := sorted(wanted.keys() ^ found.keys()):
        raise CheckpointError(f"checkpoint does not fit the recipe's model: {name} {odd[0]} is missing or too much")
    if odd := [key for key in wanted if wanted[key] != found[key]]:
        key = odd[0]
        raise CheckpointError(
            f"checkpoint does not fit the recipe's model: {name} {key} has {found[key]}", needed=str(wanted[key])
        )
    from open_ldm.checkpoints.shards import read_shards  # it takes seconds to import

    read_shards(list(files_of(path, name, described)), tensors)


@contextmanager
def _damage_named(path: Path, name: str) -> Iterator[None]:
    """Context manager that names the group in whose files or entry something odd was found."""
    try:
        yield
    except (OSError, KeyError, TypeError, AttributeError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{path.name}: {name} or its entry in {MANIFEST} is damaged") from error


def _check_files(path: Path, files: Any) -> None:
    if not isinstance(files, dict):
        raise CheckpointError(f"{path.name}: {MANIFEST} lists no files")
    for name, described in files.items():
        if not isinstance(described, dict) or _OF_A_FILE - described.keys():
            raise CheckpointError(f"{path.name}: {MANIFEST} does not describe {name}", needed=", ".join(sorted(_OF_A_FILE)))
        parts = described.get(PARTS, {})
        if not isinstance(parts, dict) or not all(_is_part(*part) for part in parts.items()):
            raise CheckpointError(f"{path.name}: {MANIFEST} does not describe the parts of {name}")


def _is_part(name: str, facts: Any) -> bool:
    """Whether an entry describes a file of the group's own folder."""
    return Path(name).name == name and isinstance(facts, dict) and facts.keys() >= _OF_A_PART


def _check_file(folder: Path, path: Path, facts: Mapping[str, Any]) -> dict[str, Tensor]:
    """Check size, hash and finiteness of a file; returns what it holds, mapped from the disk and not yet in memory."""
    where = f"{folder.name}/{path.relative_to(folder).as_posix()}"
    if not path.is_file():
        raise CheckpointError(f"{where} is missing")
    if path.stat().st_size != facts["bytes"]:
        raise CheckpointError(f"{where} has {path.stat().st_size} bytes", needed=f"{facts['bytes']}")
    if hash_file(path) != facts["sha256"]:
        raise CheckpointError(f"{where} is damaged: its SHA-256 differs from the manifest's")
    tensors: dict[str, Tensor] = load_file(path)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise CheckpointError(f"{where}: tensor {name} holds NaN or infinity")
    return tensors


def _check_inventory(path: Path, name: str, found: Mapping[str, Any], inventory: Mapping[str, Any]) -> None:
    where = f"{path.name}/{name}"
    if odd := sorted(found.keys() ^ inventory.keys()):
        raise CheckpointError(f"{where}: tensor {odd[0]} is missing or not in the manifest")
    if odd := [key for key in found if found[key] != inventory[key]]:
        raise CheckpointError(f"{where}: tensor {odd[0]} has another shape or dtype than the manifest says")


def _described(tensor: Tensor) -> dict[str, Any]:
    return {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")}
