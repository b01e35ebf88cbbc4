"""One section of a cache on disk: shards that are written whole or not at all, shared among processes, checked by hashes."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from open_ldm.core.errors import DataError, DiskError
from open_ldm.core.files import hash_file, open_handle, remove_temporary_files, write_bytes, write_json
from open_ldm.core.hashes import hash_content
from open_ldm.core.locks import lock_byte, unlock_byte
from open_ldm.core.plain_data import parse_json
from open_ldm.data.sample import BadSample
from open_ldm.encoded.cache.lacking import lacking

SCHEMA = 1
_LAYOUT, _CLAIMS, _INDEX = "section.json", ".claims", "index.json"
_LAYOUT_LOCK, _INDEX_LOCK, _FIRST_SHARD_LOCK = 0, 1, 2


@dataclass(frozen=True)
class SectionPlan:
    """What a section contains: `made_from`, everything that its rows depend on, as plain data; and `rows`, one per sample."""

    kind: str
    made_from: Mapping[str, Any]
    rows: int

    @property
    def key(self) -> str:
        """SHA-256 of the plan."""
        return hash_content({"schema": SCHEMA, **asdict(self)})

    @property
    def folder(self) -> str:
        """KIND-KEY, the key cut to 16 digits."""
        return f"{self.kind}-{self.key[:16]}"


@dataclass(frozen=True)
class ShardContent:
    """The tensors of one shard, and the bad samples that were met while they were made."""

    tensors: Mapping[str, Tensor]
    bad: Sequence[BadSample] = ()


@dataclass(frozen=True)
class ShardRecord:
    """What is known of a finished shard without reading it."""

    bytes: int
    sha256: str
    bad: tuple[BadSample, ...]

    @classmethod
    def from_json(cls, content: Any) -> ShardRecord:
        """Read a record back, the inverse of `asdict`."""
        return cls(int(content["bytes"]), str(content["sha256"]), tuple(BadSample(**bad) for bad in content["bad"]))


class Section:
    """One part of a cache, such as the latents or the captions, in a folder of its own: shards of rows, and an index of them.

    Processes share the work by claims. These are record locks on bytes of one file, which end with their process in any case
    and are not inherited by its reading workers. A process must have a section open only once.

    Args:
        root: The folder of the cache.
        plan: What the section contains.
        rows_per_shard: Gives the number of rows of a shard file. It is called when the section is begun; after that the number
            is read from the folder.
        batch_size: Number of rows encoded together. It is kept as well, because a picture's last bits can depend on its batch.
        begins: Whether a section that is not there is begun; nothing is written for one that must be there.

    Raises:
        DataError: The file that records the layout is damaged, or is that of another plan; or the section must be there.
    """

    def __init__(
        self, root: Path, plan: SectionPlan, rows_per_shard: Callable[[], int], batch_size: int = 1, *, begins: bool = True
    ) -> None:
        self.plan = plan
        self.path = root / plan.folder
        if not begins and not (self.path / _LAYOUT).is_file():
            raise lacking(root, plan.folder, asdict(plan))
        self._claims: int | None = None
        remove_temporary_files(self.path)
        self.rows_per_shard, self.batch_size = self._agreed(rows_per_shard, batch_size)

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.plan.rows // self.rows_per_shard)

    def rows_of(self, shard: int) -> range:
        """Return the rows of a shard."""
        start = shard * self.rows_per_shard
        return range(start, min(start + self.rows_per_shard, self.plan.rows))

    def file(self, shard: int) -> Path:
        """Return the path of a shard."""
        return self.path / f"{shard:05d}.safetensors"

    def missing(self) -> list[int]:
        """Find the shards that do not exist, or are not as long as they were written."""
        known = self.index()
        if known is None:
            return [shard for shard in range(self.shards) if not self.is_done(shard)]
        return [shard for shard, record in enumerate(known) if _bytes_of(self.file(shard)) != record.bytes]

    def is_done(self, shard: int) -> bool:
        """Return whether a shard was finished, by its record and its length."""
        record = self._record(shard)
        return record is not None and _bytes_of(self.file(shard)) == record.bytes

    def claimed(self, shards: Iterable[int]) -> Iterator[int]:
        """Claim one by one those of `shards` that are still missing and that no other process has claimed."""
        for shard in shards:
            if not self._lock(_FIRST_SHARD_LOCK + shard, wait=False):
                continue
            if self.is_done(shard):
                self._release(_FIRST_SHARD_LOCK + shard)
                continue
            self._discard(shard)  # remaining files of a killed process
            yield shard

    def commit(self, shard: int, content: ShardContent) -> int:
        """Write a claimed shard and its record, release the claim and return the size in bytes. Raises DiskError."""
        written = save({name: tensor.contiguous() for name, tensor in content.tensors.items()})
        record = ShardRecord(len(written), hashlib.sha256(written).hexdigest(), tuple(content.bad))
        write_bytes(self.file(shard), written)
        write_json(self._record_file(shard), asdict(record))
        self._release(_FIRST_SHARD_LOCK + shard)
        return len(written)

    def finish(self) -> tuple[ShardRecord, ...]:
        """Return the records of all shards, which must be done, and write the index if there is none.

        Raises:
            DataError: Shards were removed meanwhile.
            DiskError: There is no index, and the folder cannot be written.
        """
        if (known := self.index()) is not None:  # before any lock, which a shared cache may not let us take
            return known
        with self._locked(_INDEX_LOCK):
            if (known := self.index()) is not None:
                return known
            records = [record for shard in range(self.shards) if (record := self._record(shard)) is not None]
            if len(records) < self.shards:
                raise DataError(f"shards of {self.path} were removed meanwhile", fix="run the same command again")
            shards = [asdict(record) for record in records]
            write_json(self.path / _INDEX, {"shards": shards, "sha256": hash_content(shards)})
            return tuple(records)

    def index(self) -> tuple[ShardRecord, ...] | None:
        """Read the records of all shards from the index; None before they are all finished."""
        content = _read_json(self.path / _INDEX)
        try:
            if content is None or hash_content(content["shards"]) != content["sha256"]:
                return None
            records = tuple(map(ShardRecord.from_json, content["shards"]))
        except (KeyError, TypeError, ValueError):
            return None
        return records if len(records) == self.shards else None

    def damaged(self) -> Iterator[tuple[int, str]]:
        """Read everything and yield each finished shard whose bytes have changed, with what is wrong with it."""
        for shard, record in enumerate(self._records()):
            if record is not None and (problem := self._problem(shard, record)):
                yield shard, problem

    def looks_damaged(self, most_bytes: int) -> bool:
        """Compare the lengths of all finished shards, and the bytes of some, chosen at random, that have `most_bytes` together.

        A section of no more bytes than that is read whole; of a larger one, at least one shard.
        """
        known = [(shard, record) for shard, record in enumerate(self._records()) if record is not None]
        if any(_bytes_of(self.file(shard)) != record.bytes for shard, record in known):
            return True
        left = most_bytes
        for shard, record in random.SystemRandom().sample(known, len(known)):  # which ones changes no number of a run
            if left <= 0:
                return False
            left -= record.bytes
            if self._problem(shard, record):
                return True
        return False

    def _records(self) -> Sequence[ShardRecord | None]:
        return self.index() or [self._record(shard) for shard in range(self.shards)]

    def _problem(self, shard: int, record: ShardRecord) -> str:
        """What is wrong with the bytes of a finished shard; empty when nothing is."""
        file = self.file(shard)
        if _bytes_of(file) != record.bytes:
            return f"{self.path.name}/{file.name} is missing or not as long as it was written"
        if hash_file(file) != record.sha256:
            return f"{self.path.name}/{file.name} is damaged: its SHA-256 is not the one recorded"
        return ""

    def discard(self, shard: int) -> None:
        """Remove a shard, so that it is missing. Raises DataError when another process is writing it."""
        if not self._lock(_FIRST_SHARD_LOCK + shard, wait=False):
            raise DataError(f"another process is writing {self.file(shard)}", fix="wait for it to end")
        self._discard(shard)
        self._release(_FIRST_SHARD_LOCK + shard)

    def close(self) -> None:
        """Release all claims."""
        if self._claims is not None:
            os.close(self._claims)
            self._claims = None

    def _agreed(self, rows_per_shard: Callable[[], int], batch_size: int) -> tuple[int, int]:
        """Read the layout that all processes use; the first process writes it."""
        file = self.path / _LAYOUT
        if not file.is_file():
            with self._locked(_LAYOUT_LOCK):
                if not file.is_file():
                    most = max(1, min(self.plan.rows, rows_per_shard()))
                    layout = {"rows_per_shard": most, "batch_size": batch_size}
                    write_json(file, {"schema": SCHEMA, "key": self.plan.key, **asdict(self.plan), **layout})
        content = _read_json(file) or {}
        rows, batch = content.get("rows_per_shard"), content.get("batch_size", batch_size)
        if content.get("key") == self.plan.key and isinstance(rows, int) and isinstance(batch, int) and min(rows, batch) > 0:
            return rows, batch
        raise DataError(f"{file} is damaged", fix=f"remove the folder {self.path} and encode again")

    def _discard(self, shard: int) -> None:
        """Remove a claimed shard, the index first, so that a half-removed shard never counts as finished."""
        remaining = self.path.glob(f".{shard:05d}.*")
        for file in (self.path / _INDEX, self._record_file(shard), self.file(shard), *remaining):
            file.unlink(missing_ok=True)

    def _record_file(self, shard: int) -> Path:
        return self.path / f"{shard:05d}.json"

    def _record(self, shard: int) -> ShardRecord | None:
        try:
            return ShardRecord.from_json(_read_json(self._record_file(shard)))
        except (KeyError, TypeError, ValueError):
            return None

    @contextmanager
    def _locked(self, position: int) -> Iterator[None]:
        self._lock(position, wait=True)
        try:
            yield
        finally:
            self._release(position)

    def _lock(self, position: int, wait: bool) -> bool:
        try:
            if self._claims is None:
                self.path.mkdir(parents=True, exist_ok=True)
                self._claims = open_handle(self.path / _CLAIMS, os.O_RDWR | os.O_CREAT)
            return lock_byte(self._claims, position, wait=wait)
        except OSError as error:
            raise DiskError.of(f"cannot write to cache {self.path}", error) from error

    def _release(self, position: int) -> None:
        if self._claims is not None:
            unlock_byte(self._claims, position)


def _bytes_of(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return -1


def _read_json(file: Path) -> Any:
    """Read a JSON file; None when it does not exist or is not JSON."""
    try:
        return parse_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
