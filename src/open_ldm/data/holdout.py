"""Pictures that training never sees: a share chosen by their ids, which an evaluation can use, or a number of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from open_ldm.core.config import Config
from open_ldm.core.counted import counted
from open_ldm.core.errors import ConfigError, DataError, nearest
from open_ldm.core.later_settings import without_defaults
from open_ldm.core.seeds import key
from open_ldm.data.chosen import Chosen
from open_ldm.data.columns import Columns, columns_of
from open_ldm.data.order import sample_at
from open_ldm.data.permutation import Indices
from open_ldm.data.sample import BadPicture, IndexHashes, Sample, Source, SourceSummary
from open_ldm.data.stored import expect_streams, hold_out_numbers, stored_digests

PartName = Literal["train", "held_out"]

_CAPTIONS_KEPT = 1_000_000
"""Of a part with more samples captions are read anew whenever they are asked for, which takes time in the place of memory."""

_MORE_GROUPS = "set another share or seed, or a column of more values in data.holdout.by"


class HoldoutConfig(Config):
    """A `share` of the samples that is held out: those whose id, hashed with `seed`, gives a number below the share.

    A sample stays in its part whatever is added to the data set or removed from it, as long as its id (a file's name in a
    folder, SHARD/KEY in shards) stays the same. The share is therefore met only up to random deviations.

    With `by`, a column of metadata such as slide_id or patient, all pictures of one value are in one part: the value is hashed
    in the place of the id. Neighbouring pictures that are nearly equal then never stand on both sides. A picture without a
    value is a group of its own.
    """

    share: float = Field(gt=0, lt=1)
    seed: int = Field(default=0, ge=0)
    by: str | None = Field(default=None, min_length=1)

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(self, written(self), ("by",))

    def holds_out(self, name: str) -> bool:
        """Return whether the sample of this id, or the group of this name, belongs to the held-out part."""
        return key(self.seed, f"holdout {name}") < self.share * 2**63

    def holds_out_all(self, numbers: Indices) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Return the same for each of the numbers that `holds_out` compares, int64 [n]."""
        return numbers <= int(np.ceil(self.share * 2**63)) - 1


@dataclass(frozen=True)
class Groups:
    """How the groups of a holdout are divided.

    Attributes:
        by: The column.
        train: Number of its values whose pictures are trained on.
        held_out: Number of its values whose pictures are held out.
        without: Number of pictures without a value, each of which is a group of its own.
    """

    by: str
    train: int
    held_out: int
    without: int

    def problems(self) -> list[str]:
        """Return a warning where one side has no picture, which training refuses."""
        if self.without or (self.train and self.held_out):
            return []
        side = "to train on" if self.held_out else "held out"
        several = "groups" if self.train + self.held_out > 1 else "group"
        return [f"{self.by} has {self.train + self.held_out:,} {several}, and none is left {side}: {_MORE_GROUPS}"]

    def sentence(self) -> str:
        """Write 'by slide_id: 32 groups to train on, 8 held out; 5 pictures without a value are groups of their own'."""
        alone = ""
        if self.without:
            own = "is a group of its own" if self.without == 1 else "are groups of their own"
            alone = f"; {counted(self.without, 'picture')} without a value {own}"
        return f"by {self.by}: {counted(self.train, 'group')} to train on, {self.held_out:,} held out{alone}"


class Part:
    """The samples of a source at some of its indices; itself a `Source`.

    Args:
        source: The whole data set.
        indices: Indices of the part's samples, in its order.
        name: Name of the part, for people.
        identity: Words that say which samples these are, different for every part of the source.
        groups: How the groups are divided, where pictures are held out by a column.
    """

    def __init__(
        self, source: Source, indices: Sequence[int] | Indices, name: str, identity: str, groups: Groups | None = None
    ) -> None:
        self._source, self.name, self._identity, self.groups = source, name, identity, groups
        self._indices = Chosen(np.asarray(indices, dtype=np.int64), len(source))
        self._kept_captions: list[str] | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names of the whole data set, so that both parts have the same labels."""
        return self._source.class_names

    @cached_property
    def summary(self) -> SourceSummary:
        """Pictures, classes and captions of this part."""
        whole = self._source.summary
        captioned = whole.captioned
        if 0 < captioned < whole.pictures:
            captioned = sum(bool(captions) for captions in self._captions())
        elif captioned:
            captioned = len(self)
        layout = f"{whole.layout}; {self.name.replace('_', ' ')} part of {whole.pictures:,}"
        layout += f", {self.groups.sentence()}" if self.groups else ""
        return replace(whole, pictures=len(self), captioned=captioned, layout=layout)

    @property
    def shard_sizes(self) -> Indices | None:
        """Number of the part's samples in each shard of the whole data set; None where that has none."""
        sizes: Indices | None = getattr(self._source, "shard_sizes", None)
        return None if sizes is None else self._indices.counts(sizes)

    @property
    def fingerprint(self) -> str:
        """Hash of the whole data set's fingerprint and of this part's identity."""
        return hashlib.blake2b(f"{self._source.fingerprint}/{self._identity}".encode(), digest_size=16).hexdigest()

    @cached_property
    def columns(self) -> Columns:
        """Columns of metadata of this part."""
        return columns_of(self._source).rows(self._indices[np.arange(len(self))])

    @property
    def hashes(self) -> IndexHashes:
        """Hashes of this part's index."""
        return self._source.hashes.of_rows(self._indices[np.arange(len(self))])

    def digests(self, indices: Sequence[int], on_pictures: Callable[[int], None]) -> list[bytes | BadPicture]:
        """Compute the hashes of this part's pictures; see `Source.digests`."""
        return self._source.digests(self._indices[np.asarray(indices, dtype=np.int64)].tolist(), on_pictures)

    def stored_digests(self, indices: Indices) -> bytes | None:
        """Return the digests of this part's pictures where the whole data set has them stored."""
        return stored_digests(self._source, self._indices[indices])

    def expect_streams(self, streams: int) -> None:
        """Pass on how this part will be read."""
        expect_streams(self._source, streams)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept_captions": None}  # a process that reads pictures asks for none

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Sample:
        return self._source[self._indices.at(index)]

    def sample_id(self, index: int) -> str:
        """Return the id of a sample without reading it, as in the whole data set."""
        return self._source.sample_id(self._indices.at(index))

    def size_of(self, index: int) -> tuple[int, int]:
        """Return the original (height, width) in pixels without decoding. Raises BadPicture."""
        return self._source.size_of(self._indices.at(index))

    def label_of(self, index: int) -> int | None:
        """Return the class of a sample without reading its picture; None when it has none."""
        return self._source.label_of(self._indices.at(index))

    def captions_of(self, index: int) -> tuple[str, ...]:
        """Return the captions of a sample without reading its picture."""
        return self._source.captions_of(self._indices.at(index))

    def captions(self) -> list[str]:
        """Return all captions of this part."""
        if len(self) > _CAPTIONS_KEPT:
            return self._read_captions()
        if self._kept_captions is None:
            self._kept_captions = self._read_captions()
        return list(self._kept_captions)

    def _read_captions(self) -> list[str]:
        return [caption for captions in self._captions() for caption in captions]

    def _captions(self) -> Iterator[tuple[str, ...]]:
        return (self.captions_of(index) for index in range(len(self)))


def select_part(source: Source, holdout: HoldoutConfig, name: PartName) -> Part:
    """Select one part of a holdout.

    Raises:
        DataError: The part has no sample.
        ConfigError: The data have no column `holdout.by`.
    """
    held_out, groups = divide(source, holdout)
    chosen = np.flatnonzero(held_out if name == "held_out" else ~held_out)
    if not len(chosen):
        among = f"{len(source):,} samples" if groups is None else f"{groups.train + groups.held_out:,} groups by {groups.by}"
        raise DataError(
            f"data.holdout.share={holdout.share:g} of {among} leaves none in the part {name}",
            needed="at least one sample in each part",
            fix="set another share" if groups is None else _MORE_GROUPS,
        )
    return Part(source, chosen, name, f"{holdout.model_dump_json()}/{name}", groups)


def divide(source: Source, holdout: HoldoutConfig) -> tuple[np.ndarray[Any, np.dtype[np.bool_]], Groups | None]:
    """Return for each sample, bool [n], whether it is held out; and how many groups are on each side, for a holdout by one.

    Raises:
        ConfigError: The data have no column `holdout.by`.
    """
    held_out = np.zeros(len(source), dtype=np.bool_)
    if holdout.by is None:
        if (numbers := hold_out_numbers(source, holdout.seed)) is not None:
            return holdout.holds_out_all(numbers), None
        for index in range(len(source)):
            held_out[index] = holdout.holds_out(source.sample_id(index))
        return held_out, None
    columns = columns_of(source)
    if holdout.by not in columns:
        has = nearest(holdout.by, columns) if columns else f"a column of metadata; {source.summary.sentence()}"
        raise ConfigError(f"data.holdout.by={holdout.by}: the data have no such column", needed=has)
    column = columns[holdout.by].as_words()
    chosen = np.array([holdout.holds_out(f"group {word}") for word in column.words] + [False])
    held_out = chosen[column.values]
    alone = np.flatnonzero(column.values < 0).tolist()
    for index in alone:
        held_out[index] = holdout.holds_out(source.sample_id(index))
    out = int(chosen.sum())
    return held_out, Groups(holdout.by, len(column.words) - out, out, len(alone))


@dataclass(frozen=True)
class Split:
    """Two parts of one source that share no sample."""

    training: Part
    held_out: Part


def hold_out(source: Source, count: int, seed: int) -> Split:
    """Draw samples at random and keep them out of training.

    Args:
        source: The data set.
        count: Number of samples to hold out.
        seed: The samples are a function of the seed and the size of the data set.

    Raises:
        ConfigError: `count` is more than half of the data set.
    """
    if count > len(source) // 2:
        raise ConfigError(
            f"held_out.pictures={count} of {len(source):,} pictures",
            needed="at most half of them",
            fix=f"held_out.pictures={max(1, len(source) // 20)}",
        )
    drawn = {sample_at(key(seed, "held out"), position, len(source)) for position in range(count)}
    rest = [index for index in range(len(source)) if index not in drawn]
    identity = f"{count} held out by seed {seed}"
    return Split(Part(source, rest, "train", f"all but {identity}"), Part(source, sorted(drawn), "held_out", identity))
