"""Pictures to be measured, in batches that may come in any order, and what names the set they form."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from open_ldm.core.distributed import World
from open_ldm.core.errors import DataError
from open_ldm.core.pictures import to_images
from open_ldm.data.content import content_hash
from open_ldm.data.order import first_indices, sample_at
from open_ldm.data.sample import Batch, Source
from open_ldm.data.transforms import CenterCrop, TransformConfig
from open_ldm.sources.loader import read_batches

_DIGEST_BYTES = 16
_ORDER_SEED = 0
BATCH_SIZE = 64


@dataclass(frozen=True)
class Pictures:
    """A batch: `images` float [B, N, H, W] in [-1, 1]; `numbers`: the index of each picture in its data set, or its seed;
    `captions`: one for each picture, or None."""

    images: Tensor
    numbers: tuple[int, ...]
    captions: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        counts = {len(self.images), len(self.numbers), len(self.images if self.captions is None else self.captions)}
        if len(counts) > 1:
            raise ValueError(f"{len(self.images)} images, {len(self.numbers)} numbers, captions {self.captions}")


@dataclass
class PictureSet:
    """Which pictures were seen: `count`, `size_px` (height, width) and the sum of all pictures' hashes.

    A sum does not depend on the order, and several processes' sums can be added.
    """

    count: int = 0
    size_px: tuple[int, int] = (0, 0)
    total: int = 0

    def add(self, pixels: Tensor) -> Tensor:
        """Take in uint8 pixels [B, N, H, W]; returns a 63-bit key of each picture, int64 [B].

        Raises DataError for a size other than that of the pictures before.
        """
        self._same_size((pixels.shape[-2], pixels.shape[-1]))
        start = hashlib.blake2b(f"{pixels.shape[-2]}x{pixels.shape[-1]}".encode(), digest_size=_DIGEST_BYTES)
        keys = []
        for picture in pixels.cpu().contiguous().numpy():
            digest = start.copy()
            digest.update(picture.data)
            value = int.from_bytes(digest.digest(), "little")
            self.total = (self.total + value) % (1 << 8 * _DIGEST_BYTES)
            keys.append(value >> (8 * _DIGEST_BYTES - 63))
        self.count += len(pixels)
        return torch.tensor(keys, dtype=torch.int64)

    def merge(self, other: PictureSet) -> None:
        """Take in what another process saw."""
        if other.count:
            self._same_size(other.size_px)
            self.count += other.count
            self.total = (self.total + other.total) % (1 << 8 * _DIGEST_BYTES)

    def _same_size(self, size: tuple[int, int]) -> None:
        if self.count and self.size_px != size:
            sizes = f"{self.size_px[0]}x{self.size_px[1]} and {size[0]}x{size[1]} px"
            raise DataError(
                f"pictures of different sizes ({sizes}) in one set",
                needed="one size, since sharpness is part of what is measured",
                fix="read them through a transform of one size_px",
            )
        self.size_px = size

    @property
    def hash(self) -> str:
        """Names the set: equal for equal pictures in any order."""
        return self.total.to_bytes(_DIGEST_BYTES, "little").hex()


def numbered(batches: Iterable[Tensor]) -> Iterator[Pictures]:
    """Number images [B, N, H, W] in the order in which the batches come."""
    start = 0
    for images in batches:
        yield Pictures(images, tuple(range(start, start + len(images))))
        start += len(images)


def pictures_of(
    source: Source,
    size_px: int | tuple[int, int],
    *,
    count: int | None = None,
    batch_size: int = BATCH_SIZE,
    workers: int = 0,
    world: World | None = None,
    skip: int = 0,
) -> Iterator[Pictures]:
    """Read the first `count` pictures of a source's shuffled order, each once.

    Each picture is resized until it just covers `size_px` (antialiased bicubic) and then cropped in the middle.
    Bad pictures are left out.

    Args:
        source: The data set.
        size_px: Side of the square pictures, or (height, width).
        count: How many pictures to read; None reads all.
        batch_size: Pictures in a batch, at most.
        workers: Processes that read ahead; 0 reads in this one.
        world: With several processes, each one reads its own share.
        skip: Batches of that share that are left out, since they were read before.

    Yields:
        Batches, numbered by the index of each picture in the source.

    Raises:
        DataError: There are no pictures, or the disk cannot deliver one (the result is kept, so none may be missing).
    """
    world = world or World()
    length = min(len(source), count or len(source))
    transform = TransformConfig(size_px=size_px, crop=CenterCrop())
    starts = range(world.rank * batch_size, length, world.size * batch_size)
    ranges = [range(start, min(start + batch_size, length)) for start in starts][skip:]
    if length == 0:
        raise DataError(f"no pictures to measure ({source.summary.sentence()})", needed="at least one")
    read = read_batches(source, transform, seed=_ORDER_SEED, position_ranges=ranges, workers=workers, for_keeps=True)
    for batch in read:
        yield _usable(batch, source)


def content_of(
    source: Source, count: int, world: World | None = None, on_pictures: Callable[[int], None] = lambda done: None
) -> str:
    """Hash of what `pictures_of` would read, byte for byte; see `content_hash`. `on_pictures`: how many are done here."""
    return content_hash(source, first_indices(_ORDER_SEED, count, len(source)), world=world, on_pictures=on_pictures)


def _usable(batch: Batch, source: Source) -> Pictures:
    """Return the batch without the pictures that the loader substituted for bad ones: they would count twice."""
    numbers = [sample_at(_ORDER_SEED, position, len(source)) for position in batch.positions]
    kept = [row for row, number in enumerate(numbers) if batch.ids[row] == source.sample_id(number)]
    captions = None if batch.captions is None else tuple(batch.captions[row] for row in kept)
    return Pictures(to_images(batch.pixels[kept]), tuple(numbers[row] for row in kept), captions)
