"""Hashes of the index of shards, which name caches and are compared when a run goes on: with a table or without, the same."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from open_ldm.data.sample import IndexHashes
from open_ldm.sources.shard_samples import ShardSamples


@dataclass(frozen=True)
class ShardHashes:
    """Hashes of samples in shards.

    Attributes:
        samples: The samples.
        shards: Names of the shards.
        class_names: Names of the classes.
        reading: The settings that decide which pixels a file gives.
        caption_mode: How caption files are read, in bytes; empty for the usual way.
    """

    samples: ShardSamples
    shards: Sequence[str]
    class_names: Sequence[str]
    reading: Any
    caption_mode: bytes

    @property
    def settings(self) -> str:
        """Hash of all that the hashes depend on besides shards and samples."""
        return str(_begun((self.reading, self.caption_mode, tuple(self.class_names))).hexdigest())

    def of_all(self) -> str:
        """Hash shard names, keys, labels, captions, and offset and size of every picture; not its content."""
        digest = _begun((list(self.shards), tuple(self.class_names)))
        self.samples.hash_keys(digest)
        self.samples.hash_rows(digest)
        digest.update(self.caption_mode)
        return str(digest.hexdigest())

    def of_parts(self) -> IndexHashes:
        """Hash shard names and keys with faults and sizes, with captions, and with labels."""
        return IndexHashes(
            pictures=self._columns((self.samples.faults(), self.reading), "original_height", "original_width"),
            captions=self._columns((), "text_hash", "text_is_json") + self.caption_mode.decode(),
            labels=self._columns(tuple(self.class_names), "label"),
        )

    def _columns(self, also: object, *columns: str) -> str:
        digest = _begun((list(self.shards), also, columns))
        self.samples.hash_keys(digest)
        for column in ("shard", *columns):
            self.samples.hash_column(digest, column)
        return str(digest.hexdigest())


def _begun(content: object) -> Any:
    return hashlib.blake2b(repr(content).encode("utf-8", "backslashreplace"), digest_size=16)
