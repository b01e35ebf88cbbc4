"""One pass over pictures -> all that the metrics read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from open_ldm.core.distributed import World
from open_ldm.core.errors import DataError, StoppedError
from open_ldm.core.exchange import to_lead
from open_ldm.evaluation.bank import Bank, Rows, joined
from open_ldm.evaluation.features.base import ExtractorId, FeatureExtractor, Features, ReadsCaptions, rounded_pixels
from open_ldm.evaluation.moments import Moments, of_all
from open_ldm.evaluation.pictures import Pictures, PictureSet

BANK_CAPACITY = 50_000
ROWS_AT_ONCE = 4096
"""Rows that go from one process to another, or into one file, at a time: 32 MB of 2048 numbers each."""
_TOGETHER = 1024
"""Pictures whose moments are taken at once: a small batch would cost a pass over all of the scatter, which may be 32 MB."""


@dataclass(frozen=True)
class Statistics:
    """A set of pictures as one extractor sees it. `moments`: of all pictures; `rows`: single pictures, at most the bank's
    capacity, in an order that only the pictures decide; of several processes the leading one alone has them."""

    extractor: ExtractorId
    pictures: PictureSet
    moments: Moments
    rows: Rows

    @property
    def dim(self) -> int:
        """Length of a feature vector."""
        return len(self.moments.mean)


class Kept(Protocol):
    """Keeps what was collected so far, so that a killed process can go on."""

    @property
    def before(self) -> Sequence[Statistics]:
        """What was collected before, by this process's first batch now; none for a new start."""

    @property
    def due(self) -> bool:
        """Whether it is time to keep it again."""

    def keep(self, statistics: Sequence[Statistics], batches: int) -> None:
        """Keep it, with the number of batches that were taken in since this process began."""


@torch.no_grad()
def collect(
    batches: Iterable[Pictures],
    extractors: Sequence[FeatureExtractor],
    *,
    capacity: int = BANK_CAPACITY,
    world: World | None = None,
    kept: Kept | None = None,
) -> tuple[Statistics, ...]:
    """Collect the statistics of pictures for each extractor, in one pass.

    The result does not depend on the order of the pictures, on the batches, or on which process of `world` reads which
    picture, except for rounding.

    Args:
        batches: Pictures; with a `world`, the share of this process.
        extractors: Each one sees every picture.
        capacity: How many single pictures are kept for metrics that need them.
        world: The processes that share the pictures; every one gets the moments, and the leading one the rows.
        kept: Where the statistics are kept on the way, and what was there; None keeps nothing.

    Returns:
        Statistics, one for each extractor.

    Raises:
        DataError: There are no pictures, they differ in size, or a picture or a feature is NaN or infinite.
    """
    world = world or World()
    seen = PictureSet()
    tallies = [_Tally(Moments.empty(extractor.dim), Bank(capacity)) for extractor in extractors]
    for number, before in enumerate(() if kept is None else kept.before):
        tallies[number] = _Tally(before.moments, _filled(capacity, before.rows))
        seen = before.pictures
    taken = 0
    try:
        for taken, batch in enumerate(batches, start=1):
            if len(batch.images):
                keys = seen.add(rounded_pixels(batch.images, channels=None))
                for extractor, tally in zip(extractors, tallies, strict=True):
                    tally.add(_rows(batch, keys, extractor))
            if kept is not None and kept.due and seen.count:
                kept.keep(_statistics(extractors, seen, tallies), taken)
    except StoppedError:  # comes between batches
        if kept is not None and taken:
            kept.keep(_statistics(extractors, seen, tallies), taken)
        raise
    for tally in tallies:
        tally.flush()
    pictures = PictureSet()
    for part in world.gathered(seen, "pictures that were seen"):
        pictures.merge(part)
    if pictures.count == 0:
        raise DataError("there are no pictures to measure", needed="at least one picture")
    together = [_Tally(of_all(tally.moments, world), _at_lead(tally.bank, world)) for tally in tallies]
    return _statistics(extractors, pictures, together)


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


def merged_statistics(parts: Iterable[tuple[Statistics, Iterable[Rows]]], capacity: int) -> Statistics:
    """Join statistics of parts of a set that were collected apart, one part after the other.

    Args:
        parts: Each without its rows, which follow a portion at a time. There is at least one.
        capacity: How many single pictures are kept.
    """
    pictures, bank, moments, extractor = PictureSet(), Bank(capacity), None, None
    for part, rows in parts:
        extractor = extractor or part.extractor
        moments = moments or Moments.empty(part.dim)
        pictures.merge(part.pictures)
        moments.merge(part.moments)
        for portion in rows:
            bank.add(portion)
    assert extractor is not None and moments is not None
    return Statistics(extractor, pictures, moments, bank.rows())


def nothing_of(extractor: FeatureExtractor) -> Statistics:
    """Return statistics of no picture: what the processes hold that do not lead, where the leading one has all."""
    dim = extractor.dim
    return Statistics(extractor.id, PictureSet(), Moments.empty(dim), Rows.none(dim))


def in_portions(rows: Rows) -> Iterator[Rows]:
    """Cut rows into portions that are copied one at a time."""
    for start in range(0, len(rows), ROWS_AT_ONCE):
        yield rows.take(torch.arange(start, min(start + ROWS_AT_ONCE, len(rows))))


def _statistics(
    extractors: Sequence[FeatureExtractor], pictures: PictureSet, tallies: Sequence[_Tally]
) -> tuple[Statistics, ...]:
    found = []
    for extractor, tally in zip(extractors, tallies, strict=True):
        tally.flush()
        rows = tally.bank.rows() if len(tally.bank) else Rows.none(extractor.dim)
        found.append(Statistics(extractor.id, pictures, tally.moments, rows))
    return tuple(found)


def _filled(capacity: int, rows: Rows) -> Bank:
    bank = Bank(capacity)
    for portion in in_portions(rows):
        bank.add(portion)
    return bank


def _at_lead(bank: Bank, world: World) -> Bank:
    """Bring the rows of lowest key of all processes to the leading one; only those that are kept in the end are sent."""
    if world.size == 1:
        return bank
    keys = [bank.keys(), *to_lead(world, iter([bank.keys()]), "keys of pictures")]
    last = world.everyone(lambda: int(torch.cat(keys).sort().values[: bank.capacity][-1]), "the last key that is kept")
    own = bank.up_to(last) if len(bank) and not world.leads else None
    for portion in to_lead(world, iter(()) if own is None else in_portions(own), "features of pictures"):
        bank.add(portion)
    return bank if world.leads else Bank(bank.capacity)


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
