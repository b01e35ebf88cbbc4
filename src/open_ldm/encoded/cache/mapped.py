"""A finished section opened for reading: its shards as memory-mapped arrays, addressed by row."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from open_ldm.core.errors import DataError, DiskError
from open_ldm.core.hashes import hash_content
from open_ldm.data.sample import BadSample
from open_ldm.encoded.cache.section import Section, ShardRecord

Array = np.ndarray[Any, np.dtype[Any]]

_MOST_MAPPED = 16_384
"""Linux lets a process map 65,530 files."""


class MappedSection:
    """Random access to the rows of a section. Data are read only when they are used; threads may share it.

    Raises:
        DataError: The section is not finished, or a file is missing or damaged.
        DiskError: The disk refuses.
    """

    def __init__(self, section: Section) -> None:
        records = section.index()
        if records is None:
            raise DataError(f"cache section {section.path} is not finished", fix="run ldm encode")
        self._section, self._records = section, records
        self._mapped: dict[int, Mapping[str, Array]] = {}
        self._rows_per_shard = section.rows_per_shard
        self.first = _tensors(section, 0, records[0])
        """The tensors of the first shard, for their shapes and dtypes."""

    @property
    def made_from(self) -> Mapping[str, Any]:
        """All that its rows depend on, as plain data."""
        return self._section.plan.made_from

    @property
    def content_hash(self) -> str:
        """Hash of all bytes of the section."""
        return hash_content([record.sha256 for record in self._records])

    @property
    def bad(self) -> tuple[BadSample, ...]:
        """Bad samples that were met while the section was made, in the order of its rows."""
        return tuple(bad for record in self._records for bad in record.bad)

    def at(self, row: int) -> tuple[Mapping[str, Array], int]:
        """Return the arrays of the shard with this row, and the row's index in them; bfloat16 is given as int16 bits."""
        shard, index = divmod(row, self._rows_per_shard)
        arrays = self._mapped.pop(shard, None)
        if arrays is None:
            if len(self._mapped) >= _MOST_MAPPED:
                with suppress(KeyError, StopIteration, RuntimeError):  # another thread may have made room
                    del self._mapped[next(iter(self._mapped))]  # what has not been used for longest
            arrays = {name: as_array(tensor) for name, tensor in _tensors(self._section, shard, self._records[shard]).items()}
        self._mapped[shard] = arrays
        return arrays, index


def as_array(tensor: Tensor) -> Array:
    """Return the same memory as a numpy array; bfloat16, which numpy lacks, becomes int16."""
    array: Array = (tensor.view(torch.int16) if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array


def _tensors(section: Section, shard: int, record: ShardRecord) -> dict[str, Tensor]:
    """Map the tensors of a shard into memory. Raises DataError for a wrong file length, which would end in a bus error."""
    file = section.file(shard)
    try:
        if file.stat().st_size != record.bytes:
            raise DataError(
                f"cache file {file} has {file.stat().st_size} bytes", needed=f"{record.bytes} bytes", fix="run ldm encode"
            )
        with safe_open(file, framework="pt") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - it is not a mapping
    except FileNotFoundError as error:
        raise DataError(f"cache file {file} is missing", fix="run ldm encode") from error
    except OSError as error:
        raise DiskError.of(f"cannot read {file}", error) from error
    except SafetensorError as error:
        raise DataError(f"cache file {file} is damaged ({error})", fix="run ldm encode with --verify") from error
