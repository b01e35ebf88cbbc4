"""A cache from before views could be turned and pictures measured: the same sections, the same bytes, read as it is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from open_ldm.autoencoders.identity import IdentityAutoencoder
from open_ldm.controls import AspectRatio, Crop, Flip, OriginalSize
from open_ldm.data.content import content_hash
from open_ldm.encoded.batch import LiveEncoder
from open_ldm.encoded.cache.cache import Cache
from open_ldm.encoded.cache.config import CacheConfig
from open_ldm.encoded.cache.mapped import MappedSection
from open_ldm.encoded.cache.reader import CacheReader
from open_ldm.encoded.cache.records import read_record
from open_ldm.runs.recipe import load_recipe
from open_ldm.sources.loader import DataConfig, open_data, read_batches, read_fixed_views
from tests.encoded.cache.small_data import CPU, content, fill

BEGUN = Path(__file__).parents[2] / "runs" / "begun_before" / "dit-cache"
CONTROLS = (OriginalSize(), Crop(), Flip(), AspectRatio())


@pytest.fixture
def data() -> DataConfig:
    return load_recipe(str(BEGUN / "recipe.yaml")).data


def open_cache(data: DataConfig, path: Path) -> Cache:
    source = open_data(data)
    return Cache(CacheConfig(path=path), source, content_hash(source), data.transform, 1, IdentityAutoencoder(), None, CPU, 0)


def test_it_is_whole_and_is_read_as_live_views_are(data: DataConfig, tmp_path: Path) -> None:
    shutil.copytree(BEGUN / "cache", tmp_path, dirs_exist_ok=True)
    cache = open_cache(data, tmp_path)
    assert not any(part.section.missing() for part in cache.parts)
    reader = CacheReader(cache.open(), 5, CONTROLS)
    live = LiveEncoder(IdentityAutoencoder(), CONTROLS, CPU)
    read = read_batches(cache.source, data.transform, seed=5, position_ranges=[range(24)], workers=0, views=1)
    (found,), wanted = list(reader.batches([range(24)], 0)), live.encode(next(read))
    assert torch.equal(found.posterior.mean, wanted.posterior.mean)
    assert all(torch.equal(found.controls[name], wanted.controls[name]) for name in wanted.controls)
    section = MappedSection(cache.latents[0].section)
    (views,) = read_fixed_views(cache.source, data.transform, 0, [range(24)], 0)
    for row, record in enumerate(views.records):
        assert read_record(*section.at(row)) == record


def test_it_would_be_written_in_the_same_bytes_today(data: DataConfig, tmp_path: Path) -> None:
    with open_cache(data, tmp_path) as cache:
        fill(cache)
    before, now = content(BEGUN / "cache"), content(tmp_path)
    assert now.keys() == before.keys()
    for name in before:
        if not name.endswith(".claims"):
            same = json.loads(before[name]) == json.loads(now[name]) if name.endswith(".json") else before[name] == now[name]
            assert same, name
