"""One pass over pictures -> all that the metrics read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from open_ldm.core.distributed import World
from open_ldm.core.errors import DataError
from open_ldm.evaluation.bank import Bank, Rows, joined
from open_ldm.evaluation.features.base import ExtractorId, FeatureExtractor, Features, ReadsCaptions, rounded_pixels
from open_ldm.evaluation.moments import Moments, merged
from open_ldm.evaluation.pictures import Pictures, PictureSet

BANK_CAPACITY = 50_000
_TOGETHER = 1024
"""Pictures whose moments are taken at once: a small batch would cost a pass over all of the scatter, which may be 32 MB."""


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
    """Collect the statistics of pictures for each extractor, in one pass.

    The result does not depend on the order of the pictures, on the batches, or on which process of `world` reads which
    picture, except for rounding.

    Args:
        batches: Pictures; with a `world`, the share of this process.
        extractors: Each one sees every picture.
        capacity: How many single pictures are kept for metrics that need them.
        world: The processes that share the pictures; every one gets the result.

    Returns:
        Statistics, one for each extractor.

    Raises:
        DataError: There are no pictures, they differ in size, or a picture or a feature is NaN or infinite.
    """
    world = world or World()
    seen = PictureSet()
    tallies = [_Tally(Moments.empty(extractor.dim), Bank(capacity)) for extractor in extractors]
    for batch in (batch for batch in batches if len(batch.images)):
        keys = seen.add(rounded_pixels(batch.images, channels=None))
        for extractor, tally in zip(extractors, tallies, strict=True):
            tally.add(_rows(batch, keys, extractor))
    for tally in tallies:
        tally.flush()
    together = world.gathered(
        (seen, [tally.moments for tally in tallies], [tally.bank.rows() if seen.count else None for tally in tallies]),
        "statistics of pictures",
    )
    return _joined(together, extractors, capacity)


@dataclass
class _Tally:
    """What one extractor has seen; batches wait until they are worth a matrix product."""

    moments: Moments
    bank: Bank
    waiting: list[Rows] = field(default_factory=list)
    count: int = 0

    def add(self, rows: Rows) -> None:
        """Take in a batch."""
        self.waiting.append(rows)
        self.count += len(rows)
        if self.count >= _TOGETHER:
            self.flush()

    def flush(self) -> None:
        """Process all batches that still wait."""
        if self.waiting:
            rows = joined(self.waiting)
            self.moments.add(rows.vectors)
            self.bank.add(rows)
            self.waiting, self.count = [], 0


def _joined(
    parts: Sequence[tuple[PictureSet, list[Moments], list[Rows | None]]],
    extractors: Sequence[FeatureExtractor],
    capacity: int,
) -> tuple[Statistics, ...]:
    pictures = PictureSet()
    for seen, _, _ in parts:
        pictures.merge(seen)
    if pictures.count == 0:
        raise DataError("there are no pictures to measure", needed="at least one picture")
    statistics = []
    for index, extractor in enumerate(extractors):
        bank = Bank(capacity)
        for _, _, rows in parts:
            if (own := rows[index]) is not None:
                bank.add(own)
        moments = merged([of_extractors[index] for _, of_extractors, _ in parts])
        statistics.append(Statistics(extractor.id, pictures, moments, bank.rows()))
    return tuple(statistics)


def _rows(batch: Pictures, keys: Tensor, extractor: FeatureExtractor) -> Rows:
    features = extractor.extract(batch.images)
    scores = None
    if batch.captions is not None and isinstance(extractor, ReadsCaptions):
        scores = extractor.caption_scores(features, batch.captions).float().cpu()
    features = checked(features.cpu(), batch.numbers, extractor.id)
    return Rows(keys, torch.tensor(batch.numbers, dtype=torch.int64), features.vectors, features.probabilities, scores)


def checked(features: Features, numbers: Sequence[int], extractor: ExtractorId) -> Features:
    """Return the features; raises DataError naming the first picture whose features are not finite."""
    if not torch.isfinite(features.vectors).all():
        good = torch.isfinite(features.vectors).all(dim=1)
        number = numbers[int((~good).nonzero()[0])]
        raise DataError(
            f"the features of picture {number} by {extractor.name} hold NaN or infinity",
            fix="check that the weights file is whole and meant for this network",
        )
    return features
