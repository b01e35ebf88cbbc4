"""A part of a data set, as a data set."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from open_ldm.data.sample import Sample, Source, SourceSummary
from open_ldm.data.survey import Labelled


class Subset:
    """The samples at `indices` of a source, in that order. Ids and class names stay those of the whole."""

    def __init__(self, source: Source, indices: Sequence[int]) -> None:
        self.source = source
        self.indices = np.asarray(indices, dtype=np.int64)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the whole source."""
        return self.source.class_names

    @property
    def summary(self) -> SourceSummary:
        """The whole's, with the number of pictures of the part; captions count as the whole's share."""
        whole = self.source.summary
        captioned = round(whole.captioned * len(self) / max(1, whole.pictures))
        return replace(whole, pictures=len(self), captioned=captioned, layout=f"part of {whole.layout}")

    @property
    def fingerprint(self) -> str:
        """Hash of the whole's fingerprint and the indices."""
        return hashlib.blake2b(self.source.fingerprint.encode() + self.indices.tobytes(), digest_size=16).hexdigest()

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        return self.source[self._whole(index)]

    def sample_id(self, index: int) -> str:
        """Id in the whole source."""
        return self.source.sample_id(self._whole(index))

    def size_of(self, index: int) -> tuple[int, int]:
        """Original (height, width) in pixels."""
        return self.source.size_of(self._whole(index))

    def label_of(self, index: int) -> int | None:
        """Class of a sample; reads its picture where the source must."""
        place = self._whole(index)
        return self.source.label_of(place) if isinstance(self.source, Labelled) else self.source[place].label

    def captions(self) -> list[str]:
        """All captions of the whole: a part's vocabulary is no smaller."""
        return self.source.captions()

    def _whole(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return int(self.indices[index])
