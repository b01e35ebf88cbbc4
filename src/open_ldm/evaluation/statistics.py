"""One pass over pictures -> all that the metrics read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from open_ldm.core.distributed import World
from open_ldm.core.errors import DataError
from open_ldm.evaluation.bank import Bank, Rows
from open_ldm.evaluation.features.base import ExtractorId, FeatureExtractor, Features, ReadsCaptions, rounded_pixels
from open_ldm.evaluation.moments import Moments, merged
from open_ldm.evaluation.pictures import Pictures, PictureSet

BANK_CAPACITY = 50_000


@dataclass(frozen=True)
class Statistics:
    """A set of pictures as one extractor sees it. `moments`: of all pictures; `rows`: single pictures, at most the bank's
    capacity, in an order that only the pictures decide."""

    extractor: ExtractorId
    pictures: PictureSet
    moments: Moments
    rows: Rows

    @property
    def dim(self) -> int:
        """Length of a feature vector."""
        return len(self.moments.mean)


@torch.no_grad()
def collect(
    batches: Iterable[Pictures],
    extractors: Sequence[FeatureExtractor],
    *,
    capacity: int = BANK_CAPACITY,
    world: World | None = None,
) -> tuple[Statistics, ...]:
    """Read `batches` once and return the statistics for each extractor.

    Nothing depends on the order of the pictures, on how they are cut into batches, or on which of the processes of `world`
    reads which of them, beyond rounding. Every process gets the result. Raises DataError for an empty set, pictures of
    different sizes, and pictures or features with NaN or infinity.
    """
    world = world or World()
    seen = PictureSet()
    banks = [Bank(capacity) for _ in extractors]
    moments = [Moments.empty(extractor.dim) for extractor in extractors]
    for batch in (batch for batch in batches if len(batch.images)):
        keys = seen.add(rounded_pixels(batch.images, channels=None))
        for extractor, bank, moment in zip(extractors, banks, moments, strict=True):
            rows = _rows(batch, keys, extractor)
            moment.add(rows.vectors)
            bank.add(rows)
    together = world.gathered((seen, moments, [bank.rows() if seen.count else None for bank in banks]))
    return _joined(together, extractors, capacity)


def _joined(
    parts: Sequence[tuple[PictureSet, list[Moments], list[Rows | None]]],
    extractors: Sequence[FeatureExtractor],
    capacity: int,
) -> tuple[Statistics, ...]:
    pictures = PictureSet()
    for seen, _, _ in parts:
        pictures.merge(seen)
    if pictures.count == 0:
        raise DataError("no pictures to measure", needed="at least one")
    found = []
    for place, extractor in enumerate(extractors):
        bank = Bank(capacity)
        for _, _, rows in parts:
            if (own := rows[place]) is not None:
                bank.add(own)
        moments = merged([of_extractors[place] for _, of_extractors, _ in parts])
        found.append(Statistics(extractor.id, pictures, moments, bank.rows()))
    return tuple(found)


def _rows(batch: Pictures, keys: Tensor, extractor: FeatureExtractor) -> Rows:
    features = extractor.extract(batch.images)
    scores = None
    if batch.captions is not None and isinstance(extractor, ReadsCaptions):
        scores = extractor.caption_scores(features, batch.captions).float().cpu()
    features = checked(features.cpu(), batch.numbers, extractor.id)
    return Rows(keys, torch.tensor(batch.numbers, dtype=torch.int64), features.vectors, features.probabilities, scores)


def checked(features: Features, numbers: Sequence[int], extractor: ExtractorId) -> Features:
    """The features; raises DataError naming the first picture whose features are not finite."""
    good = torch.isfinite(features.vectors).all(dim=1)
    if not good.all():
        number = numbers[int((~good).nonzero()[0])]
        raise DataError(
            f"the features of picture {number} by {extractor.name} hold NaN or infinity",
            fix="check that the weights file is whole and meant for this network",
        )
    return features
