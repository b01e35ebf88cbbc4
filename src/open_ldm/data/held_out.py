"""A data set in two parts: what is trained on, and a few samples that never are."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import overload

from open_ldm.core.errors import ConfigError
from open_ldm.core.seeds import key
from open_ldm.data.order import sample_at
from open_ldm.data.sample import IndexHashes, Sample, Source, SourceSummary


@dataclass(frozen=True)
class Split:
    """Two sources that share no sample."""

    training: Source
    held_out: Source


def hold_out(source: Source, count: int, seed: int) -> Split:
    """Draw `count` samples, a function of the seed and the number of samples, and keep them out of training.

    Raises ConfigError when that would be more than half of the data set.
    """
    if count > len(source) // 2:
        raise ConfigError(
            f"held_out.pictures={count} of {len(source):,} pictures",
            needed="at most half of them",
            fix=f"held_out.pictures={max(1, len(source) // 20)}",
        )
    drawn = sorted(sample_at(key(seed, "held out"), position, len(source)) for position in range(count))
    told = f"{count} held out by seed {seed}"
    return Split(Part(source, _AllBut(len(source), drawn), f"all but {told}"), Part(source, drawn, told))


class Part:
    """The samples of a source at some of its indices; `told`: which, in words that no other part of it has."""

    def __init__(self, source: Source, indices: Sequence[int], told: str) -> None:
        self.source, self.indices, self.told = source, indices, told

    @property
    def class_names(self) -> tuple[str, ...]:
        """Those of the whole source."""
        return self.source.class_names

    @property
    def summary(self) -> SourceSummary:
        """The whole source's, with the number of pictures of this part."""
        return replace(self.source.summary, pictures=len(self))

    def captions_of(self, index: int) -> tuple[str, ...]:
        """Captions of a sample, without reading its picture."""
        return self.source.captions_of(self.indices[index])

    @property
    def fingerprint(self) -> str:
        """Hash of the whole source's and of which part this is."""
        return hashlib.blake2b(f"{self.source.fingerprint}/{self.told}".encode(), digest_size=16).hexdigest()

    @property
    def hashes(self) -> IndexHashes:
        """Those of this part."""
        return self.source.hashes.of_rows(self.indices)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        return self.source[self.indices[index]]

    def sample_id(self, index: int) -> str:
        """Id in the whole source."""
        return self.source.sample_id(self.indices[index])

    def size_of(self, index: int) -> tuple[int, int]:
        """Original (height, width) in pixels."""
        return self.source.size_of(self.indices[index])

    def label_of(self, index: int) -> int | None:
        """Class of a sample, without reading its picture."""
        return self.source.label_of(self.indices[index])

    def captions(self) -> list[str]:
        """Those of the whole source: which belong to which sample is not known without reading it."""
        return self.source.captions()


class _AllBut(Sequence[int]):
    """0, 1, ... below `length` without the sorted numbers `left_out`; no list of what remains is kept."""

    def __init__(self, length: int, left_out: Sequence[int]) -> None:
        self._count = length - len(left_out)
        # The number of remaining indices before each one left out: index i lies behind those that are at most i.
        self._before = [number - place for place, number in enumerate(left_out)]

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[int]: ...
    def __getitem__(self, index: int | slice) -> int | Sequence[int]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        if not -self._count <= index < self._count:
            raise IndexError(index)
        index %= self._count
        return index + bisect_right(self._before, index)
