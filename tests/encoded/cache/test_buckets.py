"""A cache of views of several shapes gives what live encoding in buckets gives, and other caches do not move."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from open_ldm.autoencoders.base import Autoencoder
from open_ldm.autoencoders.identity import IdentityAutoencoder
from open_ldm.core.files import hash_file
from open_ldm.data.bucket_order import BucketOrder
from open_ldm.data.bucket_shapes import BucketsConfig
from open_ldm.data.buckets import assign
from open_ldm.data.content import content_hash
from open_ldm.data.sample import BadPicture, Sample
from open_ldm.data.transforms import TransformConfig
from open_ldm.encoded.batch import EncodedBatch, LiveEncoder
from open_ldm.encoded.cache.cache import Cache
from open_ldm.encoded.cache.config import CacheConfig
from open_ldm.encoded.cache.latents import latents_plan
from open_ldm.encoded.cache.reader import CacheReader, ToDevice
from open_ldm.encoded.cache.verify import check_entries
from open_ldm.sources.loader import read_batches
from tests.encoded.cache.small_data import CONTROLS, CPU, Halver, Pictures, fill
from tests.encoded.cache.test_reader import assert_equal

CUT = TransformConfig(size_px=12, flip=0.5, buckets=BucketsConfig(step_px=2))
SEED, BATCH, LENGTH = 11, 4, 23


class Oblong(Pictures):
    """Pictures of 1:3 to 3:1; two cannot be read."""

    def size_of(self, index: int) -> tuple[int, int]:
        if index in self.bad:
            raise BadPicture("not a picture")
        return 10 + 5 * (index % 5), 10 + 4 * (index % 6)

    def __getitem__(self, index: int) -> Sample:
        height, width = self.size_of(index)
        pixels = np.random.default_rng(index).integers(0, 256, (height, width, 3), dtype=np.uint8)
        return Sample(self.sample_id(index), pixels, height, width, self.label_of(index))


SOURCE = Oblong(LENGTH, bad=(3, 17), words="")
BUCKETS = assign([None if index in SOURCE.bad else SOURCE.size_of(index) for index in range(LENGTH)], CUT.shapes, CUT.base)
ORDER = BucketOrder(BUCKETS, SEED, BATCH, views=2)


def cache_in(path: Path, autoencoder: Autoencoder) -> Cache:
    config = CacheConfig(path=path, shard_mb=0.008, batch_size=3)
    cache = Cache(config, SOURCE, content_hash(SOURCE), CUT, 2, autoencoder, None, CPU, 0, buckets=BUCKETS)
    with cache:
        fill(cache)
    return cache


def live(autoencoder: Autoencoder, ranges: Sequence[range]) -> list[EncodedBatch]:
    encoder = LiveEncoder(autoencoder, CONTROLS, CPU)
    read = read_batches(SOURCE, CUT, seed=SEED, position_ranges=ranges, workers=0, order=ORDER)
    return [encoder.encode(batch) for batch in read]


@pytest.mark.parametrize("autoencoder", [IdentityAutoencoder(), Halver()], ids=["identity", "deviation"])
def test_cached_batches_equal_live_ones(autoencoder: Autoencoder, tmp_path: Path) -> None:
    cache = cache_in(tmp_path, autoencoder)
    assert cache.latents[0].section.shards > 1
    epochs = sum(ORDER.batches_of(epoch) for epoch in range(3))
    ranges = [range(start, start + BATCH) for start in range(0, BATCH * epochs, BATCH)]
    reader = CacheReader(cache.open(), SEED, CONTROLS, order=ORDER)
    found = [ToDevice(CPU).encode(batch) for batch in reader.batches(ranges, 2)]
    assert_equal(found, live(autoencoder, ranges))
    assert {tuple(batch.posterior.mean.shape[2:]) for batch in found} == {
        (height // autoencoder.factor, width // autoencoder.factor) for height, width in BUCKETS.shapes
    }
    checked = check_entries(cache, LENGTH)
    assert checked.wrong == () and checked.difference == 0


def test_a_killed_encoding_ends_with_the_same_bytes(tmp_path: Path) -> None:
    whole, broken = cache_in(tmp_path / "whole", Halver()), cache_in(tmp_path / "broken", Halver())
    with broken:
        broken.latents[0].section.discard(1)
        fill(broken)
    files = [sorted(each.latents[0].section.path.glob("*.safetensors")) for each in (whole, broken)]
    assert len(files[0]) > 1 and list(map(hash_file, files[0])) == list(map(hash_file, files[1]))


def test_a_wrong_entry_is_found(tmp_path: Path) -> None:
    cache = cache_in(tmp_path, IdentityAutoencoder())
    for part in cache.latents:
        part.maker.autoencoder = Halver()  # type: ignore[union-attr]
    assert len(check_entries(cache, LENGTH).wrong) == 2 * LENGTH


def test_keys_of_other_caches_are_what_they_were() -> None:
    plain = CUT.model_copy(update={"buckets": None})
    config = CacheConfig(path=Path("x"))
    assert latents_plan("p", 5, plain, 0, IdentityAutoencoder(), config).folder == "latents-ffda5295b3e2b1a3"
    keys = {latents_plan("p", 5, cut, 0, IdentityAutoencoder(), config).folder for cut in (plain, CUT)}
    assert len(keys) == 2
