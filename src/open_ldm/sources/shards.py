"""Tar shards with random access: KEY.jpg with KEY.cls (class number), KEY.txt or KEY.caption (captions), or KEY.json.

With `channels`, KEY.npy or KEY.tif contains the picture.
KEY.json may contain text, label, original_height, original_width and columns of its own. A `classes.json` beside the shards
names the classes.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
from pydantic import Field

from open_ldm.core.errors import DataError, OpenLdmError, shortened
from open_ldm.core.files import StoredPart, open_handle, read_at
from open_ldm.core.plain_data import parse_json
from open_ldm.data import pictures
from open_ldm.data.columns import flat
from open_ldm.data.ome import Ome, attributes_in, read_ome
from open_ldm.data.sample import BadPicture, IndexHashes, Sample, SourceSummary, printable, unreadable
from open_ldm.sources.captions import NOT_UTF8, captions_in, decode_text
from open_ldm.sources.digests import StoredPicture, read_digests
from open_ldm.sources.labels import BAD_LABEL, NO_LABEL, read_class_names, resolve_labels
from open_ldm.sources.metadata import captions_from
from open_ldm.sources.near_misses import near_columns
from open_ldm.sources.ome_columns import with_ome
from open_ldm.sources.picture_files import PictureFilesConfig
from open_ldm.sources.shard_columns import columns_in
from open_ldm.sources.shard_index import ShardIndex, ShardRules, index_shard
from open_ldm.sources.shard_keys import ignored_words
from open_ldm.sources.shard_paths import find_shards
from open_ldm.sources.shard_rows import original_size_in, rows_of

BAD_CAPTION = "unreadable caption"

_MOST_OPEN_SHARDS = 64
_HEAD_BYTES, _HEADS_FIRST = 1 << 15, (b"\xff\xd8", b"\x89PNG")
"""So many bytes tell the size of a picture of these formats, unless they hold much else before it."""


class ShardsConfig(PictureFilesConfig):
    """Tar shards.

    Attributes:
        path: A folder of .tar files, one .tar file, or a pattern such as data/train-*.tar or data/{000..099}.tar.
        picture: Where a sample has several pictures, the ending of the one to read: `photo.png` of 0000.photo.png and
            0000.mask.png. Keys then end at the first dot of a name, as in WebDataset. null takes the one picture there is.
    """

    kind: Literal["shards"] = "shards"
    path: str = Field(min_length=1)
    picture: str | None = Field(default=None, min_length=1)

    @property
    def rules(self) -> ShardRules:
        """How members of the shards are read."""
        return ShardRules(self.suffixes, self.picture, tuple(sorted(self.columns.items())))

    def open(self) -> ShardsSource:
        """Index the shards. Raises ConfigError for a wrong path, DataError, which names the shard, for damaged content."""
        return ShardsSource(self)


class ShardsSource:
    """Random-access data set over tar shards, with printable ids SHARD/KEY. Each process opens a file at its first read."""

    def __init__(self, config: ShardsConfig) -> None:
        self.config = config
        self._shards = find_shards(config.path)
        self._captions_matter = True
        self._handles: OrderedDict[int, int] = OrderedDict()
        self._captions: tuple[str, ...] | None = None
        indices = [index_shard(shard, config.rules) for shard in self._shards]
        entries = [entry for index in indices for entry in index.entries]
        if not entries:
            raise _no_pictures(config, indices)
        labels = resolve_labels([entry.label for entry in entries], read_class_names(self._shards[0].parent), config.path)
        self._class_names = labels.class_names
        self._keys = [entry.key for entry in entries]
        self._faults = {row: entry.fault for row, entry in enumerate(entries) if entry.fault}
        shard_of = [number for number, index in enumerate(indices) for _ in index.entries]
        self._rows = rows_of(entries, shard_of, labels.indices)
        columns = columns_in(self._read, entries, indices, config.rules)
        self.columns = with_ome(columns, len(entries), self.ome_at)
        if labels.class_names:
            for row in np.flatnonzero(self._rows["label"] == NO_LABEL):
                self._faults.setdefault(int(row), BAD_LABEL)
        self._summary = self._summarise(indices, labels.said)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in label order; empty when there are none."""
        return self._class_names

    @property
    def summary(self) -> SourceSummary:
        """What the shards contain."""
        return self._summary

    @property
    def fingerprint(self) -> str:
        """Hash of shard names, keys, labels, captions, and offset and size of every picture; not of its content."""
        names = [shard.name for shard in self._shards]
        digest = hashlib.blake2b(repr((names, self._class_names)).encode(), digest_size=16)
        digest.update("\0".join(map(printable, self._keys)).encode())
        digest.update(self._rows.tobytes() + self._caption_mode)
        return digest.hexdigest()

    @property
    def hashes(self) -> IndexHashes:
        """Hashes of shard names and keys, with the captions' content."""
        settings = (sorted(self._faults.items()), self.config.reading)
        return IndexHashes(
            pictures=self._hash_of(settings, "original_height", "original_width"),
            captions=self._hash_of((), "text_hash", "text_is_json") + self._caption_mode.decode(),
            labels=self._hash_of(self._class_names, "label"),
        )

    def digests(self, indices: Sequence[int], on_pictures: Callable[[int], None]) -> list[bytes | BadPicture]:
        """Compute the BLAKE2b of each picture's bytes, whatever else its shard contains; see `Source.digests`."""
        return read_digests(map(self._stored, indices), str(self._shards[0].parent.resolve()), len(self), on_pictures)

    @property
    def _caption_mode(self) -> bytes:
        return b"" if self.config.captions == "lines" else self.config.captions.encode()

    def ignore_captions(self) -> None:
        """Take pictures whose captions cannot be read as pictures without any, for a run that reads no captions."""
        self._captions_matter = False

    def _stored(self, index: int) -> StoredPicture | None:
        row = self._rows[index]
        if index in self._faults:
            return None
        return StoredPicture(self._shards[row["shard"]], int(row["offset"]), int(row["size"]))

    def _hash_of(self, also: object, *columns: str) -> str:
        stated = ([shard.name for shard in self._shards], also, columns)
        digest = hashlib.blake2b(repr(stated).encode("utf-8", "backslashreplace"), digest_size=16)
        digest.update("\0".join(map(printable, self._keys)).encode())
        for column in ("shard", *columns):
            digest.update(self._rows[column].tobytes())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> Sample:
        row = self._usable(index)
        content = self._read(index, int(row["offset"]), int(row["size"]))
        pixels = self.config.decode(content)
        size = (pixels.shape[0], pixels.shape[1])
        known = original_size_in(row)
        height, width = size if known is None else self.config.upright(known, content, size)
        return Sample(
            id=self.sample_id(index),
            pixels=pixels,
            original_height_px=height,
            original_width_px=width,
            label=self.label_of(index),
            captions=self._read_caption(index),
            attributes=attributes_in(content),
            file=content,
        )

    def file_at(self, index: int) -> bytes:
        """Return the bytes of a picture's file. Raises BadPicture."""
        row = self._usable(index)
        return self._read(index, int(row["offset"]), int(row["size"]))

    def ome_at(self, index: int) -> Ome:
        """Read what a picture's file says of itself, from its header. Raises BadPicture."""
        row = self._usable(index)
        part = StoredPart(partial(self._read, index), int(row["offset"]), int(row["size"]))
        return read_ome(io.BufferedReader(part))

    def sample_id(self, index: int) -> str:
        """Return 'SHARD/KEY', the shard without .tar."""
        return printable(f"{self._shards[self._rows[index]['shard']].stem}/{self._keys[index]}")

    def size_of(self, index: int) -> tuple[int, int]:
        """Return the original (height, width) in pixels, from KEY.json or the picture's header. Raises BadPicture."""
        row = self._usable(index)
        known = original_size_in(row)
        if known is not None and known[0] == known[1]:
            return known
        head = self._read(index, int(row["offset"]), min(_HEAD_BYTES, int(row["size"])))
        if self.config.channels is not None or not head.startswith(_HEADS_FIRST):
            return self._whole_size(index, known)
        try:
            size = self.config.read_size(head)
        except BadPicture:  # it may need more than the head
            return self._whole_size(index, known)
        return size if known is None else self.config.upright(known, head, size)

    def _whole_size(self, index: int, known: tuple[int, int] | None) -> tuple[int, int]:
        content = self.file_at(index)
        size = self.config.read_size(content)
        return size if known is None else self.config.upright(known, content, size)

    def label_of(self, index: int) -> int | None:
        """Return the class of a picture without reading it; None when it has none."""
        label = int(self._rows[index]["label"])
        return None if label == NO_LABEL else label

    def captions_of(self, index: int) -> tuple[str, ...]:
        """Return the captions of a picture without reading it; an empty tuple where they cannot be used.

        Raises:
            DataError: The disk does not give them.
        """
        try:
            return self._read_caption(index)
        except BadPicture as verdict:
            if verdict.of_disk:
                raise unreadable(self.sample_id(index), verdict) from verdict
            return ()

    def captions(self) -> list[str]:
        """Return all captions, in the order of the pictures, without unusable ones. They are read once, then kept."""
        if self._captions is None:
            self._captions = tuple(caption for index in range(len(self)) for caption in self.captions_of(index))
        return list(self._captions)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handles": OrderedDict(), "_captions": None}

    def __del__(self) -> None:
        for handle in getattr(self, "_handles", {}).values():
            os.close(handle)

    def _summarise(self, indices: Sequence[ShardIndex], labels: str) -> SourceSummary:
        words = "1 tar shard" if len(self._shards) == 1 else f"{len(self._shards):,} tar shards"
        without_picture = sum(index.without_picture for index in indices)
        words += f"; {without_picture:,} keys without a picture ignored" if without_picture else ""
        words += ignored_words(_ignored(indices), sum(index.merged for index in indices))
        words += f"; {labels}" if labels else ""
        words += self._unread(indices)
        captioned = int(np.count_nonzero(self._rows["text_size"]))
        return SourceSummary(len(self), len(self._class_names), captioned, words, self.config.channels)

    def _unread(self, indices: Sequence[ShardIndex]) -> str:
        """Name what looks like captions or classes and is not read: values in .json, and folders inside the shards."""
        names = dict.fromkeys(name for index in indices for name in index.names)
        known = {"text": self._rows["text_size"].any(), "label": self._class_names}
        missing = [role for role, there in known.items() if not there and self.config.rules.column(role) not in names]
        near = near_columns(names, {str(role): name for role, name in self.config.columns.items()}, missing)
        words = f"; values in .json not read; to read them: {near}" if near else ""
        folders = {key.partition("/")[0] for key in self._keys if "/" in key}
        if len(folders) > 1 and not self._class_names:
            words += f"; {len(folders):,} folders in the shards, which are no classes"
        return words

    def _usable(self, index: int) -> Any:
        if index in self._faults:
            raise BadPicture(self._faults[index], self.sample_id(index))
        return self._rows[index]

    def _read_caption(self, index: int) -> tuple[str, ...]:
        row = self._rows[index]
        if not row["text_size"]:
            return ()
        stored = self._read(index, int(row["text_offset"]), int(row["text_size"]))
        try:
            text = decode_text(stored)
            if row["text_is_json"]:
                content = parse_json(text, finite=False)
                return captions_from({**flat(content), **content}[self.config.rules.column("text")], "")
            return captions_in(text, self.config.captions)
        except (ValueError, KeyError, TypeError, OpenLdmError) as error:
            if not self._captions_matter:
                return ()
            why = f": its text {NOT_UTF8}" if isinstance(error, UnicodeDecodeError) else ""
            raise BadPicture(BAD_CAPTION, f"{self.sample_id(index)}{why}") from error

    def _read(self, index: int, offset: int, size: int) -> bytes:
        shard = int(self._rows[index]["shard"])
        content = pictures.with_retries(lambda: read_at(self._handle(shard), size, offset), self.sample_id(index))
        if len(content) != size:
            detail = f"{self.sample_id(index)}: {self._shards[shard].name} became shorter"
            raise BadPicture(pictures.CANNOT_READ, detail, of_disk=True)
        return content

    def _handle(self, shard: int) -> int:
        """Return an open file of a shard. Reads state their offset (pread), so a handle inherited by fork does no harm."""
        if shard not in self._handles:
            if len(self._handles) >= _MOST_OPEN_SHARDS:
                os.close(self._handles.popitem(last=False)[1])
            self._handles[shard] = open_handle(self._shards[shard], os.O_RDONLY)
        self._handles.move_to_end(shard)
        return self._handles[shard]


def _ignored(indices: Sequence[ShardIndex]) -> Counter[str]:
    return sum((Counter(index.ignored) for index in indices), Counter())


def _no_pictures(config: ShardsConfig, indices: Sequence[ShardIndex]) -> DataError:
    endings = config.suffixes if config.picture is None else (f".{config.picture}",)
    found = shortened([suffix for suffix, _ in _ignored(indices).most_common()], 6)
    needed = f"members named KEY{shortened(endings)}" + (f"; found {found}" if found else "")
    return DataError(f"{config.path} contains no pictures", needed=needed)
