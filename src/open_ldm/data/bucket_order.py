"""The order of samples in buckets: one bucket a global batch, a pure function of (seed, position) with no state to save.

Bucket b of n_b samples is read as an endless order of its own: number j is its sample permutation[b, e](i) with
(e, i) = divmod(j, n_b). It is cut into batches of B, and by the end of epoch e so many of them have come that every sample was
read e + 1 times:

    batches_b(e) = ceil((e + 1) n_b / B) - ceil(e n_b / B)

Where n_b is no multiple of B, the last batch of an epoch is filled from the bucket's next epoch, where what was taken does not
come again. So after E epochs every sample has come E times, and besides them fewer than B of each bucket once more (several
times, where a bucket has fewer than B samples: such a bucket has no batch at all in most epochs). The batches of all buckets
come in the order of one more permutation of each epoch.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate

from open_ldm.core.seeds import key
from open_ldm.data.bucket_shapes import words_of
from open_ldm.data.buckets import Buckets
from open_ldm.data.order import ViewKey, fixed_view, permuted, reserve_of, shaped


@dataclass(frozen=True)
class BatchKey:
    """A global batch: batch number `batch` of bucket number `bucket`, in an epoch."""

    epoch: int
    bucket: int
    batch: int


@dataclass(frozen=True, eq=False)
class BucketOrder:
    """The order of a training in buckets; see the module's docstring.

    Attributes:
        buckets: The shape of each sample.
        seed: The run's seed.
        batch_size: Pictures of a global batch.
        views: Number of fixed views of each sample, used in turn, one for each epoch of its bucket; None for new ones.
    """

    buckets: Buckets
    seed: int
    batch_size: int
    views: int | None = None

    def view_at(self, position: int) -> ViewKey:
        """Return the view at a position."""
        number, row = divmod(position, self.batch_size)
        at = self.batch_at(number)
        count = self._counts[at.bucket]
        epoch, index = divmod(at.batch * self.batch_size + row, count)
        sample = int(self.buckets.members[at.bucket][permuted(self._seeds[at.bucket], epoch, index, count)])
        if self.views is None:
            return shaped(ViewKey(sample, None, self.seed, position), self.buckets)
        return shaped(fixed_view(sample, epoch % self.views, len(self.buckets.numbers)), self.buckets)

    def reserve_at(self, at: ViewKey, attempt: int) -> int:
        """Return the index of a replacement, one of the same bucket."""
        return reserve_of(at, attempt, len(self.buckets.numbers), self.buckets)

    def batch_at(self, number: int) -> BatchKey:
        """Return global batch `number`, counted from 0 over all epochs."""
        epoch = self._epoch_of(number)
        before, after = self._batches_before(epoch), self._batches_before(epoch + 1)
        ends = list(accumulate(new - old for old, new in zip(before, after, strict=True)))
        slot = permuted(self._sequence_seed, epoch, number - sum(before), ends[-1])
        bucket = bisect_right(ends, slot)
        first = ends[bucket - 1] if bucket else 0
        return BatchKey(epoch, bucket, before[bucket] + slot - first)

    def batches_of(self, epoch: int) -> int:
        """Return the number of global batches of an epoch."""
        return sum(self._batches_before(epoch + 1)) - sum(self._batches_before(epoch))

    def _epoch_of(self, number: int) -> int:
        """Find the epoch of a global batch: before epoch e come e N / B batches, and less than one more for each bucket."""
        total = sum(self._counts)
        low, high = max(0, (number - len(self._counts)) * self.batch_size // total - 1), number * self.batch_size // total + 1
        while low < high:  # the last epoch that begins at or before `number`
            middle = (low + high + 1) // 2
            low, high = (middle, high) if sum(self._batches_before(middle)) <= number else (low, middle - 1)
        return low

    def _batches_before(self, epoch: int) -> tuple[int, ...]:
        """Return the number of batches of each bucket in all epochs before this one."""
        return _batches_before(self._counts, self.batch_size, epoch)

    @cached_property
    def _counts(self) -> tuple[int, ...]:
        return tuple(len(members) for members in self.buckets.members)

    @cached_property
    def _seeds(self) -> tuple[int, ...]:
        return tuple(key(self.seed, f"bucket {words_of(shape)}") for shape in self.buckets.shapes)

    @cached_property
    def _sequence_seed(self) -> int:
        return key(self.seed, "sequence of buckets")


@lru_cache(maxsize=16)
def _batches_before(counts: tuple[int, ...], batch_size: int, epoch: int) -> tuple[int, ...]:
    return tuple(-(-epoch * count // batch_size) for count in counts)
