"""Tar shards with random access: KEY.jpg with KEY.cls (class number), KEY.txt or KEY.caption (captions), or KEY.json.

With `channels`, KEY.npy or KEY.tif contains the picture.
KEY.json may contain text, label, original_height, original_width and columns of its own. A `classes.json` beside the shards
names the classes.
"""

from __future__ import annotations

import io
import os
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from pydantic import Field

from open_ldm.core.errors import DataError, OpenLdmError, shortened
from open_ldm.core.files import StoredPart, open_handle, read_at
from open_ldm.core.plain_data import parse_json
from open_ldm.data import pictures
from open_ldm.data.columns import flat
from open_ldm.data.ome import Ome, attributes_in, read_ome
from open_ldm.data.permutation import Indices
from open_ldm.data.sample import BadPicture, IndexHashes, Sample, SourceSummary, printable, unreadable
from open_ldm.sources.captions import NOT_UTF8, captions_in, decode_text
from open_ldm.sources.digests import StoredPicture, read_digests
from open_ldm.sources.labels import NO_LABEL, read_class_names, resolve_classes
from open_ldm.sources.metadata import captions_from
from open_ldm.sources.near_misses import near_columns
from open_ldm.sources.ome_columns import with_ome
from open_ldm.sources.open_samples import open_samples
from open_ldm.sources.picture_files import PictureFilesConfig
from open_ldm.sources.shard_columns import columns_in
from open_ldm.sources.shard_hashes import ShardHashes
from open_ldm.sources.shard_index import MOST_JSON_BYTES, ShardRules
from open_ldm.sources.shard_keys import ignored_words
from open_ldm.sources.shard_paths import find_shards
from open_ldm.sources.shard_samples import Row, Told

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
        self._samples, known = open_samples(self._shards, config.rules)
        if not len(self._samples):
            raise _no_pictures(config, self._samples.told.ignored)
        classes = resolve_classes(self._samples.label_counts, read_class_names(self._shards[0].parent), config.path)
        self._class_names = classes.names
        self._samples.settle(classes)
        self._known = known.get(self._index_hashes.settings, ())
        columns = columns_in(self._json, len(self._samples), self._samples.told.names, config.rules)
        self.columns = with_ome(columns, len(self._samples), self.ome_at)
        self._summary = self._summarise(classes.said)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes in label order; empty when there are none."""
        return self._class_names

    @property
    def summary(self) -> SourceSummary:
        """What the shards contain."""
        return self._summary

    @property
    def shard_sizes(self) -> Indices:
        """Number of samples in each shard, int64, in the order of the samples."""
        return self._samples.sizes

    @property
    def fingerprint(self) -> str:
        """Hash of shard names, keys, labels, captions, and offset and size of every picture; not of its content."""
        return self._known[0] if self._known else self._index_hashes.of_all()

    @property
    def hashes(self) -> IndexHashes:
        """Hashes of shard names and keys, with the captions' content."""
        return IndexHashes(*self._known[1:]) if self._known else self._index_hashes.of_parts()

    def known_hashes(self) -> dict[str, Sequence[str]]:
        """Compute the hashes of the index for its table, by the settings that they depend on."""
        parts = self._index_hashes.of_parts()
        return {self._index_hashes.settings: [self._index_hashes.of_all(), parts.pictures, parts.captions, parts.labels]}

    @property
    def _index_hashes(self) -> ShardHashes:
        mode = b"" if self.config.captions == "lines" else self.config.captions.encode()
        names = [shard.name for shard in self._shards]
        return ShardHashes(self._samples, names, self._class_names, self.config.reading, mode)

    def stored_digests(self, indices: Indices) -> bytes | None:
        """Return the digests of samples, 16 bytes each, where the table of shards has them; no picture is read."""
        return self._samples.digests_of(indices)

    def hold_out_numbers(self, seed: int) -> Indices | None:
        """Return what a hold-out of this seed compares, for each sample, where the table of shards has it."""
        return self._samples.hold_out_numbers(seed)

    def digests(self, indices: Sequence[int], on_pictures: Callable[[int], None]) -> list[bytes | BadPicture]:
        """Compute the BLAKE2b of each picture's bytes, whatever else its shard contains; see `Source.digests`."""
        return read_digests(map(self._stored, indices), str(self._shards[0].parent.resolve()), len(self), on_pictures)

    def ignore_captions(self) -> None:
        """Take pictures whose captions cannot be read as pictures without any, for a run that reads no captions."""
        self._captions_matter = False

    def _stored(self, index: int) -> StoredPicture | None:
        if self._samples.fault(index):
            return None
        row = self._samples.row(index)
        return StoredPicture(self._shards[row.shard], row.offset, row.size)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        row = self._usable(index)
        content = self._read(index, row.offset, row.size)
        pixels = self.config.decode(content)
        size = (pixels.shape[0], pixels.shape[1])
        known = _original_size_in(row)
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
        return self._read(index, row.offset, row.size)

    def ome_at(self, index: int) -> Ome:
        """Read what a picture's file says of itself, from its header. Raises BadPicture."""
        row = self._usable(index)
        part = StoredPart(partial(self._read, index), row.offset, row.size)
        return read_ome(io.BufferedReader(part))

    def sample_id(self, index: int) -> str:
        """Return 'SHARD/KEY', the shard without .tar."""
        return printable(f"{self._shards[self._samples.row(index).shard].stem}/{self._samples.key(index)}")

    def size_of(self, index: int) -> tuple[int, int]:
        """Return the original (height, width) in pixels, from KEY.json or the picture's header. Raises BadPicture."""
        row = self._usable(index)
        known = _original_size_in(row)
        if known is not None and known[0] == known[1]:
            return known
        head = self._read(index, row.offset, min(_HEAD_BYTES, row.size))
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
        label = self._samples.row(index).label
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

    def _summarise(self, labels: str) -> SourceSummary:
        told = self._samples.told
        words = "1 tar shard" if len(self._shards) == 1 else f"{len(self._shards):,} tar shards"
        words += f"; {told.without_picture:,} keys without a picture ignored" if told.without_picture else ""
        words += ignored_words(told.ignored, told.merged)
        words += f"; {labels}" if labels else ""
        words += self._unread(told)
        return SourceSummary(len(self), len(self._class_names), self._samples.captioned, words, self.config.channels)

    def _unread(self, told: Told) -> str:
        """Name what looks like captions or classes and is not read: values in .json, and folders inside the shards."""
        known = {"text": self._samples.captioned, "label": self._class_names}
        missing = [role for role, there in known.items() if not there and self.config.rules.column(role) not in told.names]
        near = near_columns(told.names, {str(role): name for role, name in self.config.columns.items()}, missing)
        words = f"; values in .json not read; to read them: {near}" if near else ""
        if told.folders > 1 and not self._class_names:
            words += f"; {told.folders:,} folders in the shards, which are no classes"
        return words

    def _json(self, index: int) -> bytes:
        """Read KEY.json of a sample, or as much of it as counts; empty where there is none. Raises BadPicture."""
        if self._samples.json_places is None:
            return self._samples.json_of(index) or b""
        offset, size = self._samples.json_places[index].tolist()
        return self._read(index, offset, min(size, MOST_JSON_BYTES)) if size else b""

    def _usable(self, index: int) -> Row:
        if fault := self._samples.fault(index):
            raise BadPicture(fault, self.sample_id(index))
        return self._samples.row(index)

    def _read_caption(self, index: int) -> tuple[str, ...]:
        row = self._samples.row(index)
        if not row.text_size:
            return ()
        stored = self._samples.text_of(index)
        if stored is None:
            stored = self._read(index, row.text_offset, row.text_size)
        try:
            text = decode_text(stored)
            if row.text_is_json:
                content = parse_json(text, finite=False)
                return captions_from({**flat(content), **content}[self.config.rules.column("text")], "")
            return captions_in(text, self.config.captions)
        except (ValueError, KeyError, TypeError, OpenLdmError) as error:
            if not self._captions_matter:
                return ()
            why = f": its text {NOT_UTF8}" if isinstance(error, UnicodeDecodeError) else ""
            raise BadPicture(BAD_CAPTION, f"{self.sample_id(index)}{why}") from error

    def _read(self, index: int, offset: int, size: int) -> bytes:
        shard = self._samples.row(index).shard
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
            self._samples.require_unchanged(shard)
            self._handles[shard] = open_handle(self._shards[shard], os.O_RDONLY)
        self._handles.move_to_end(shard)
        return self._handles[shard]


def _no_pictures(config: ShardsConfig, ignored: Mapping[str, int]) -> DataError:
    endings = config.suffixes if config.picture is None else (f".{config.picture}",)
    found = shortened([suffix for suffix, _ in Counter(ignored).most_common()], 6)
    needed = f"members named KEY{shortened(endings)}" + (f"; found {found}" if found else "")
    return DataError(f"{config.path} contains no pictures", needed=needed)


def _original_size_in(row: Row) -> tuple[int, int] | None:
    """The (height, width) that metadata give in a row; None where they give none."""
    return (row.original_height, row.original_width) if row.original_height else None
