"""Groups of tensors that several processes write together, each its own shards, and that any number of them reads.

This is torch's distributed checkpoint with its Hugging Face safetensors storage: a folder of safetensors files and no pickle.
Its reader takes plain safetensors files as well.
"""

from __future__ import annotations

import hashlib
import io
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystem
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from open_ldm.core.errors import CheckpointError


def write_shards(folder: Path, tensors: Mapping[str, Tensor], group: Any) -> dict[str, dict[str, Any]]:
    """Write a group of tensors by all processes together; every process calls this.

    Args:
        folder: Where each process writes one file; it is made where it does not exist.
        tensors: By name; of a tensor in shards each process writes its own, and of any other tensor one process writes all.
        group: The processes, over which they agree who writes what.

    Returns:
        {file name: its `bytes` and `sha256`} of what this process wrote, hashed on the way to the disk.

    Raises:
        OSError: A disk refused, the same error on every process; safetensors has an error of its own for it.
    """
    if not tensors:
        return {}
    files = _HashingFiles()
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    writer.fs = files
    try:
        save(dict(tensors), storage_writer=writer, process_group=group)
    except CheckpointException as error:
        raise _first(error) from error
    return files.written


def read_shards(files: Sequence[Path], into: Mapping[str, Tensor]) -> None:
    """Read tensors in place, of each only the part that this process holds; no other process is needed.

    Args:
        files: All files of one group.
        into: Tensors of the right shapes by name, whole ones or shards.
    """
    if not into:
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # it is not asked for
        try:
            load(dict(into), storage_reader=_reader(files), no_dist=True)
        except CheckpointException as error:
            raise _first(error) from error


def described_in(files: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Read which whole tensors the files of a group hold: {name: its `shape` and `dtype`}, from their headers alone.

    Raises:
        CheckpointError: A part of a tensor is missing.
    """
    found = {}
    metadata: Any = _reader(files).read_metadata() if files else None
    for name, one in {} if metadata is None else metadata.state_dict_metadata.items():
        held = sum(math.prod(chunk.sizes) for chunk in one.chunks)
        if held != math.prod(one.size):
            raise CheckpointError(f"a part of tensor {name} is missing")
        found[name] = {"shape": list(one.size), "dtype": str(one.properties.dtype).removeprefix("torch.")}
    return found


def _first(error: CheckpointException) -> BaseException:
    """The error of the first process that had one: torch's is no Exception itself, and holds those of all."""
    return error.failures[min(error.failures)][0]


def _reader(files: Sequence[Path]) -> HuggingFaceStorageReader:
    reader = HuggingFaceStorageReader(str(files[0].parent))
    reader.fs = _TheseFiles(files)
    return reader


class _HashingStream(io.BufferedWriter):
    """A file that counts and hashes what is written to it."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "w"))
        self.digest, self.bytes = hashlib.sha256(), 0

    def write(self, data: Any) -> int:
        """Write to the file, and take what is written into its hash and length."""
        self.digest.update(data)
        self.bytes += len(data)
        written = super().write(data)
        self.flush()  # torch flushes the file to the disk without emptying this buffer first
        return written


class _HashingFiles(FileSystem):
    """A disk that remembers size and hash of each file that was written."""

    def __init__(self) -> None:
        self.written: dict[str, dict[str, Any]] = {}

    @contextmanager
    def create_stream(self, path: Any, mode: str) -> Iterator[io.IOBase]:
        """Open a file of a checkpoint for writing, and note its length and hash once it is closed."""
        with _HashingStream(Path(path)) as stream:
            yield stream
        self.written[Path(path).name] = {"bytes": stream.bytes, "sha256": stream.digest.hexdigest()}


class _TheseFiles(FileSystem):
    """A disk on which a folder has these files and no others."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files

    def ls(self, path: Any) -> list[str]:
        """Return the files of the checkpoint, wherever they lie."""
        return [str(file) for file in self.files]
