"""The latents section: the posterior of one fixed view of every sample, and how that view was made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from open_ldm.autoencoders.base import Autoencoder
from open_ldm.core.out_of_memory import naming_lack_of_memory
from open_ldm.core.pictures import to_images
from open_ldm.data.buckets import Buckets
from open_ldm.data.sample import BadSample, Batch, Source
from open_ldm.data.transforms import TransformConfig
from open_ldm.encoded.cache.build import Work
from open_ldm.encoded.cache.config import DTYPES, CacheConfig
from open_ldm.encoded.cache.records import record_columns
from open_ldm.encoded.cache.section import Section, SectionPlan, ShardContent
from open_ldm.encoded.cache.shapes import batches_of_shapes, joined_shapes
from open_ldm.sources.loader import read_fixed_views

_VIEW_RULE = 1
"""Number of the rule that makes a fixed view of a picture; another rule makes other caches."""


def latents_plan(
    pictures: str, length: int, transform: TransformConfig, view: int, autoencoder: Autoencoder, config: CacheConfig
) -> SectionPlan:
    """Describe the section of fixed view number `view` of all samples.

    Args:
        pictures: Hash of the pictures' content.
        length: Number of samples.
        transform: How views are cut.
        view: Number of the fixed view.
        autoencoder: The autoencoder.
        config: The number format.
    """
    made_from = {
        "pictures": pictures,
        "transform": transform.model_dump(mode="json"),
        "view": view,
        "view_rule": _VIEW_RULE,
        "autoencoder": autoencoder.fingerprint,
        "dtype": config.latents,
    }
    if transform.buckets is not None:
        made_from["shapes"] = [list(shape) for shape in transform.shapes]
    return SectionPlan("latents", made_from, length)


class LatentsMaker:
    """Makes the shards of one latents section on the autoencoder's `device`; `workers` processes read pictures.

    With `buckets` its views have several shapes (shapes.py).
    """

    def __init__(
        self,
        source: Source,
        transform: TransformConfig,
        view: int,
        autoencoder: Autoencoder,
        config: CacheConfig,
        device: torch.device,
        workers: int,
        buckets: Buckets | None = None,
    ) -> None:
        self.source, self.transform, self.view = source, transform, view
        self.autoencoder, self.config = autoencoder, config
        self.device, self.workers, self.buckets = device, workers, buckets

    def rows_per_shard(self, shard_bytes: int) -> int:
        """Compute how many pictures' means and deviations fit into a shard of so many bytes."""
        side = self.autoencoder.factor
        latent = self.autoencoder.channels * (self.transform.height_px // side) * (self.transform.width_px // side)
        return shard_bytes // (2 * latent * DTYPES[self.config.latents].itemsize)

    def ranges(self, section: Section, shard: int) -> Iterator[Sequence[int]]:
        """Return the batches of a shard. They are always the same, because a picture's last bits can depend on its batch."""
        rows = section.rows_of(shard)
        if self.buckets is not None:
            yield from batches_of_shapes(rows, section.batch_size, self.buckets)
            return
        for start in range(rows.start, rows.stop, section.batch_size):
            yield range(start, min(start + section.batch_size, rows.stop))

    def make(self, section: Section, shards: Iterator[int], work: Work) -> Iterator[tuple[int, ShardContent]]:
        """Read, encode and collect the rows of shards; the pictures of following shards are read meanwhile."""
        ranges = (batch for shard in shards for batch in self.ranges(section, shard))
        batches = read_fixed_views(self.source, self.transform, self.view, ranges, self.workers, self.buckets)
        collected: list[dict[str, Tensor]] = []
        rows: list[int] = []
        bad: list[BadSample] = []
        while True:
            with work.during("reading"):
                batch = next(batches, None)
            if batch is None:
                return
            work.check_stop()
            with work.during("autoencoder"):
                collected.append(self.encode(batch))
            bad.extend(batch.bad)
            work.progressed(len(batch.positions))
            rows += batch.positions
            shard = rows[0] // section.rows_per_shard
            if len(rows) == len(section.rows_of(shard)):
                yield shard, ShardContent(self._joined(collected, rows), tuple(bad))
                collected, rows, bad = [], [], []

    def _joined(self, parts: Sequence[dict[str, Tensor]], rows: Sequence[int]) -> dict[str, Tensor]:
        if self.buckets is not None:
            return joined_shapes(parts, rows)
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """Encode a batch as it is stored: mean and std [B, C, h, w], records (records.py), index int64 [B]."""
        count = len(batch.positions)
        with naming_lack_of_memory(f"while {count} pictures were encoded together", partial(_fewer, count)):
            posterior = self.autoencoder.encode(to_images(batch.pixels.to(self.device, non_blocking=True)))
        dtype = DTYPES[self.config.latents]
        stored = {
            "mean": posterior.mean.to("cpu", dtype),
            **record_columns(batch.records, self.transform),
            "index": torch.tensor(batch.indices, dtype=torch.int64),
        }
        return stored if posterior.std is None else {**stored, "std": posterior.std.to("cpu", dtype)}


def _fewer(pictures: int) -> str:
    if pictures == 1:
        return "training.device=cpu, or a smaller data.transform.size_px"
    return f"cache.batch_size={pictures // 2} and another cache.path, since a cache keeps what it was begun with"
