"""Tar shards with random access: KEY.jpg with KEY.cls (class number), KEY.txt or KEY.caption (captions), or KEY.json.

With `channels`, KEY.npy or KEY.tif contains the picture.
KEY.json may contain text, label, original_height, original_width and columns of its own. A `classes.json` beside the shards
names the classes.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from open_ldm.core.files import StoredPart
from open_ldm.data.ome import Ome, attributes_in, read_ome
from open_ldm.data.permutation import Indices
from open_ldm.data.sample import BadPicture, IndexHashes, Sample, SourceSummary, printable, unreadable
from open_ldm.sources import file_states
from open_ldm.sources.captions import NOT_UTF8
from open_ldm.sources.digests import DIGEST_BYTES, StoredPicture, read_digests
from open_ldm.sources.labels import CLASSES, NO_LABEL, read_class_names, resolve_classes
from open_ldm.sources.network import RemoteConfig, is_remote
from open_ldm.sources.ome_columns import with_ome
from open_ldm.sources.open_samples import open_samples
from open_ldm.sources.picture_files import PictureFilesConfig
from open_ldm.sources.shard_captions import UNREADABLE, read_captions
from open_ldm.sources.shard_columns import columns_in
from open_ldm.sources.shard_hashes import ShardHashes
from open_ldm.sources.shard_index import MOST_JSON_BYTES, ShardRules
from open_ldm.sources.shard_paths import locate_shards
from open_ldm.sources.shard_samples import Row
from open_ldm.sources.shard_words import no_pictures, shards_words
from open_ldm.sources.storage import CANNOT_FETCH

BAD_CAPTION = "unreadable caption"

_HEAD_BYTES, _HEADS_FIRST = 1 << 15, (b"\xff\xd8", b"\x89PNG")
"""So many bytes tell the size of a picture of these formats, unless they hold much else before it."""


class ShardsConfig(PictureFilesConfig):
    """Tar shards.

    Attributes:
        path: A folder of .tar files, one .tar file, or a pattern such as data/train-*.tar or data/{000..099}.tar; on this
            machine, or behind a network, as in s3://bucket/train, gs://, https://, hf://datasets/OWNER/NAME/folder.
        picture: Where a sample has several pictures, the ending of the one to read: `photo.png` of 0000.photo.png and
            0000.mask.png. Keys then end at the first dot of a name, as in WebDataset. null takes the one picture there is.
        remote: How shards behind a network are read.
    """

    kind: Literal["shards"] = "shards"
    path: str = Field(min_length=1)
    picture: str | None = Field(default=None, min_length=1)
    remote: RemoteConfig = RemoteConfig()
    later_settings: ClassVar[tuple[str, ...]] = (*PictureFilesConfig.later_settings, "remote")

    @model_validator(mode="after")
    def _remote_is_for_addresses(self) -> ShardsConfig:
        if self.remote != RemoteConfig() and not is_remote(self.path):
            raise ValueError("remote has no effect on shards of this machine; needed: a path such as s3://bucket/train")
        return self

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
        located = locate_shards(config.path, config.remote)
        self._storage, self._shards = located.storage, located.shards
        self._captions_matter = True
        self._captions: tuple[str, ...] | None = None
        self._samples, known = open_samples(self._shards, config.rules, self._storage, config)
        if not len(self._samples):
            raise no_pictures(config.path, config.picture, config.suffixes, self._samples.told.ignored)
        self._storage.obtain(self._shards[0].parent / CLASSES, again=True)
        classes = resolve_classes(self._samples.label_counts, read_class_names(self._shards[0].parent), config.path)
        self._class_names = classes.names
        self._samples.settle(classes)
        self._known = known.get(self._index_hashes.settings, ())
        columns = columns_in(self._json, len(self._samples), self._samples.told.names, config.rules)
        self.columns = with_ome(columns, len(self._samples), self.ome_at)
        samples, names = self._samples, self._class_names
        words = shards_words(len(self._shards), samples, names, config.rules, config.columns, classes.said)
        self._summary = SourceSummary(len(self), len(names), samples.captioned, words, config.channels)

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
        return self._known[0] if self._known else self._hash_of_all

    @property
    def hashes(self) -> IndexHashes:
        """Hashes of shard names and keys, with the captions' content."""
        return IndexHashes(*self._known[1:]) if self._known else self._hashes_of_parts

    @cached_property
    def _hash_of_all(self) -> str:
        return self._index_hashes.of_all()

    @cached_property
    def _hashes_of_parts(self) -> IndexHashes:
        return self._index_hashes.of_parts()

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
        known = self._samples.digests_of(indices)
        states = self._states_of(len(indices)) if known is None else None
        return known if states is None else states.digests_of(indices)

    def hold_out_numbers(self, seed: int) -> Indices | None:
        """Return what a hold-out of this seed compares, for each sample, where the table of shards has it."""
        return self._samples.hold_out_numbers(seed)

    def digests(self, indices: Sequence[int], on_pictures: Callable[[int], None]) -> list[bytes | BadPicture]:
        """Compute the BLAKE2b of each picture's bytes, whatever else its shard contains; see `Source.digests`."""
        read = partial(read_digests, map(self._stored, indices), str(self._shards[0].parent.resolve()), len(self), on_pictures)
        states = self._states_of(len(indices))
        return read() if states is None else states.reading(np.asarray(indices, dtype=np.int64), read)

    def _states_of(self, count: int) -> file_states.FileStates | None:
        """What is remembered of shards, for so many samples; few are looked up one by one, and no sidecar is read for them."""
        if self._storage.remote or count <= file_states.FEW:
            return None
        bad = [index for index, _ in self._samples.faults()]
        return file_states.states_of_shards(self.config.path, self._shards, self._samples.sizes, self.config.rules, bad)

    def ignore_captions(self) -> None:
        """Take pictures whose captions cannot be read as pictures without any, for a run that reads no captions."""
        self._captions_matter = False

    def _stored(self, index: int) -> StoredPicture | None:
        if self._samples.fault(index):
            return None
        row = self._samples.row(index)
        if self._storage.remote:
            return StoredPicture(self._shards[row.shard], row.offset, row.size, partial(self.file_at, index))
        return StoredPicture(self._shards[row.shard], row.offset, row.size)

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Sample:
        row = self._usable(index)
        content = self._picture(index, row)
        pixels = self.config.decode(content)
        size = (pixels.shape[0], pixels.shape[1])
        known = row.original_size
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
        return self._picture(index, self._usable(index))

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
        known = row.original_size
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
        return {**self.__dict__, "_captions": None}

    def expect_streams(self, streams: int) -> None:
        """Get ready for reads that go through so many shards side by side, each to its end."""
        self._storage.expect_streams(streams)

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
        offset, size, is_json = self._samples.text_place(index)
        if not size:
            return ()
        stored = self._samples.text_of(index)
        if stored is None:
            stored = self._read(index, offset, size)
        try:
            return read_captions(stored, self.config.rules.column("text") if is_json else None, self.config.captions)
        except UNREADABLE as error:
            if not self._captions_matter:
                return ()
            why = f": its text {NOT_UTF8}" if isinstance(error, UnicodeDecodeError) else ""
            raise BadPicture(BAD_CAPTION, f"{self.sample_id(index)}{why}") from error

    def _picture(self, index: int, row: Row) -> bytes:
        """The bytes of a picture's file; what came through a network is compared with the digest, where the table has one."""
        content = self._read(index, row.offset, row.size)
        if not self._storage.remote or _is_of(content, wanted := self._samples.digest_of(index)):
            return content
        self._storage.discard(self._shards[row.shard])
        content = self._read(index, row.offset, row.size)
        if _is_of(content, wanted):
            return content
        raise BadPicture(CANNOT_FETCH, f"{self.sample_id(index)}: its bytes are not those that were indexed", of_disk=True)

    def _read(self, index: int, offset: int, size: int) -> bytes:
        shard = self._samples.row(index).shard
        unchanged = partial(self._samples.require_unchanged, shard)
        whole = self._samples.bytes_of_shard(shard)
        return self._storage.read(self._shards[shard], offset, size, self.sample_id(index), unchanged, whole)


def _is_of(content: bytes, digest: bytes | None) -> bool:
    return digest is None or hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest() == digest
