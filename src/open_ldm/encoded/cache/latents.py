"""Latents section: the posterior of one fixed view of every sample, and how that view was made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import astuple
from typing import Any

import torch
from torch import Tensor

from open_ldm.autoencoders.base import Autoencoder
from open_ldm.core.pictures import to_images
from open_ldm.data.loader import read_fixed_views
from open_ldm.data.sample import BadSample, Batch, Source, TransformRecord
from open_ldm.data.transforms import TransformConfig
from open_ldm.encoded.cache.build import Work
from open_ldm.encoded.cache.config import DTYPES, CacheConfig
from open_ldm.encoded.cache.section import Section, SectionPlan, ShardContent

_VIEW_RULE = 1
"""Number of the rule by which a fixed view is made of a picture; another rule makes other caches."""


def latents_plan(
    pictures: str, length: int, transform: TransformConfig, view: int, autoencoder: Autoencoder, config: CacheConfig
) -> SectionPlan:
    """Fixed view number `view` of all samples, encoded. `pictures`: hash of their content; `length`: how many."""
    made_from = {
        "pictures": pictures,
        "transform": transform.model_dump(mode="json"),
        "view": view,
        "view_rule": _VIEW_RULE,
        "autoencoder": autoencoder.fingerprint,
        "dtype": config.latents,
    }
    return SectionPlan("latents", made_from, length)


class LatentsMaker:
    """Makes the shards of one latents section. `device`: of the autoencoder; `workers`: processes that read pictures."""

    def __init__(
        self,
        source: Source,
        transform: TransformConfig,
        view: int,
        autoencoder: Autoencoder,
        config: CacheConfig,
        device: torch.device,
        workers: int,
    ) -> None:
        self.source, self.transform, self.view = source, transform, view
        self.autoencoder, self.config = autoencoder, config
        self.device, self.workers = device, workers

    def rows_per_shard(self, shard_bytes: int) -> int:
        """As many pictures as have their mean and deviation in so many bytes."""
        side = self.autoencoder.factor
        latent = self.autoencoder.channels * (self.transform.height_px // side) * (self.transform.width_px // side)
        return shard_bytes // (2 * latent * DTYPES[self.config.latents].itemsize)

    def ranges(self, section: Section, shard: int) -> Iterator[range]:
        """The batches of a shard: always the same, because what stands beside a picture can change its last bits."""
        rows = section.rows_of(shard)
        for start in range(rows.start, rows.stop, section.batch_size):
            yield range(start, min(start + section.batch_size, rows.stop))

    def make(self, section: Section, shards: Iterator[int], work: Work) -> Iterator[tuple[int, ShardContent]]:
        """Read, encode and collect; pictures of the shards that follow are read meanwhile."""
        ranges = (batch for shard in shards for batch in self.ranges(section, shard))
        batches = read_fixed_views(self.source, self.transform, self.view, ranges, self.workers)
        collected: list[dict[str, Tensor]] = []
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
            shard = batch.positions[0] // section.rows_per_shard
            if batch.positions[-1] == section.rows_of(shard)[-1]:
                tensors = {name: torch.cat([part[name] for part in collected]) for name in collected[0]}
                yield shard, ShardContent(tensors, tuple(bad))
                collected, bad = [], []

    def encode(self, batch: Batch) -> dict[str, Tensor]:
        """A batch as it is stored: mean and std [B, C, h, w], record int32 [B, 9], index int64 [B]."""
        posterior = self.autoencoder.encode(to_images(batch.pixels.to(self.device, non_blocking=True)))
        dtype = DTYPES[self.config.latents]
        stored = {
            "mean": posterior.mean.to("cpu", dtype),
            "record": torch.tensor([astuple(record) for record in batch.records], dtype=torch.int32),
            "index": torch.tensor(batch.indices, dtype=torch.int64),
        }
        return stored if posterior.std is None else {**stored, "std": posterior.std.to("cpu", dtype)}


def record_of(numbers: Sequence[Any]) -> TransformRecord:
    """The inverse of a stored record."""
    return TransformRecord(*[*numbers[:-1], bool(numbers[-1])])
