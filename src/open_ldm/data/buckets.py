"""Buckets: which of several shapes each picture of a data set is cut to (data/bucket_shapes.py)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from open_ldm.core.distributed import World
from open_ldm.data.bucket_shapes import Shape, kept_share, nearest_shape, words_of
from open_ldm.data.sample import BadPicture, Source, unreadable


@dataclass(frozen=True, eq=False)
class Buckets:
    """Which shape each sample of a data set is cut to.

    Attributes:
        shapes: The shapes.
        numbers: Number of its shape for each sample, uint16 [N].
        thrown_away: Share of a picture's pixels that no view shows, in the mean over the pictures.
        thrown_away_alone: The same if all were cut to `alone`.
        alone: The one shape that buckets stand in place of.
    """

    shapes: tuple[Shape, ...]
    numbers: np.ndarray[Any, np.dtype[np.uint16]]
    thrown_away: float
    thrown_away_alone: float
    alone: Shape

    @cached_property
    def members(self) -> tuple[np.ndarray[Any, np.dtype[np.int64]], ...]:
        """Indices of the samples of each shape, in the order of the data set."""
        return tuple(np.flatnonzero(self.numbers == number) for number in range(len(self.shapes)))

    @property
    def fingerprint(self) -> str:
        """Hash of the shapes and of which sample has which."""
        return hashlib.blake2b(repr(self.shapes).encode() + self.numbers.tobytes(), digest_size=16).hexdigest()

    def shape_of(self, index: int) -> Shape:
        """Return the shape of a sample's views."""
        return self.shapes[self.numbers[index]]

    def sentence(self) -> str:
        """Write how many shapes there are, which is fullest, and what is thrown away."""
        counts = [len(members) for members in self.members]
        used = [shape for shape, count in zip(self.shapes, counts, strict=True) if count]
        fullest = self.shapes[counts.index(max(counts))]
        square = "square crop" if self.alone[0] == self.alone[1] else f"crop to {words_of(self.alone)}"
        return (
            f"{len(used)} of {len(self.shapes)} buckets are used, {words_of(used[0])} to {words_of(used[-1])} px,"
            f" most pictures in {words_of(fullest)}; {100 * self.thrown_away:.1f} % of a picture's pixels are thrown away"
            f" (by a {square} {100 * self.thrown_away_alone:.1f} %)"
        )

    def table(self) -> list[str]:
        """Write the sentence, and a line for each shape with its number of pictures."""
        pairs = zip(self.shapes, self.members, strict=True)
        return [self.sentence(), *(f"{words_of(shape):>12}{len(members):>9,} pictures" for shape, members in pairs)]

    def small(self, batch_size: int) -> tuple[str, ...]:
        """Write a line that names buckets with fewer pictures than a batch, which come several times in it, or none."""
        counts = [(len(members), shape) for members, shape in zip(self.members, self.shapes, strict=True)]
        few = sorted((count, shape) for count, shape in counts if 0 < count < batch_size)
        if not few:
            return ()
        shown = ", ".join(f"{words_of(shape)} ({count:,})" for count, shape in few[:4])
        more = f" and {len(few) - 4} more" if len(few) > 4 else ""
        return (f"buckets with fewer pictures than a batch of {batch_size:,}, where they come several times: {shown}{more}",)

    def to_json(self) -> dict[str, Any]:
        """Return plain data: pictures by shape, and the shares that are thrown away."""
        return {
            "buckets": {words_of(shape): len(members) for shape, members in zip(self.shapes, self.members, strict=True)},
            "thrown_away": round(self.thrown_away, 6),
            "thrown_away_by_one_shape": round(self.thrown_away_alone, 6),
        }


def assign(sizes: Sequence[Shape | None], shapes: Sequence[Shape], alone: Shape) -> Buckets:
    """Give every sample the shape that keeps most of it.

    Args:
        sizes: (height, width) of each picture; None for one whose header cannot be read: it joins the fullest bucket, where
            another takes its place when its turn comes.
        shapes: The shapes.
        alone: See `Buckets`.
    """
    known = {size: nearest_shape(size, shapes) for size in set(sizes) if size is not None}
    found = [known[size] for size in sizes if size is not None]
    fullest = int(np.bincount(found, minlength=len(shapes)).argmax()) if found else 0
    numbers = np.array([fullest if size is None else known[size] for size in sizes], dtype=np.uint16)
    kept = [kept_share(size, shapes[known[size]]) for size in sizes if size is not None]
    kept_alone = [kept_share(size, alone) for size in sizes if size is not None]
    thrown, thrown_alone = (1 - float(np.mean(shares)) if shares else 0.0 for shares in (kept, kept_alone))
    return Buckets(tuple(shapes), numbers, thrown, thrown_alone, alone)


def find_buckets(source: Source, shapes: Sequence[Shape], alone: Shape, world: World | None = None) -> Buckets:
    """Read the size of every picture from its header, or from metadata, and assign the shapes; processes share the work.

    Args:
        source: The data set.
        shapes: The shapes.
        alone: See `Buckets`.
        world: The processes that work together.

    Raises:
        DataError: The disk does not give a picture.
    """
    world = world or World()
    bounds = [rank * len(source) // world.size for rank in range(world.size + 1)]
    own = [_size_of(source, index) for index in range(bounds[world.rank], bounds[world.rank + 1])]
    return assign([size for part in world.gathered(own, "sizes of pictures") for size in part], shapes, alone)


def _size_of(source: Source, index: int) -> Shape | None:
    try:
        return source.size_of(index)
    except BadPicture as verdict:
        if verdict.of_disk:  # which may pass, and then the picture would move to another bucket in the middle of a run
            raise unreadable(source.sample_id(index), verdict) from verdict
        return None
