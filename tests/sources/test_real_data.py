"""The pictures of ../shared/data, where they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from open_ldm.data.survey import survey
from open_ldm.data.transforms import LocalCrop, TransformConfig
from open_ldm.runs.recipe import load_recipe
from open_ldm.sources.folder import FolderConfig
from open_ldm.sources.loader import read_batches
from open_ldm.sources.shards import ShardsConfig

pytestmark = pytest.mark.data


def test_cifar10(real_data: Path) -> None:
    source = ShardsConfig(path=str(real_data / "cifar10" / "train-*.tar")).open()
    assert source.summary.sentence() == "20,000 pictures, 10 classes, captions (10 tar shards)"
    assert source.class_names[0] == "airplane"
    found = survey(source, limit=500)
    assert (found.height_px.smallest, found.width_px.largest) == (32, 32)
    assert min(found.class_counts.values()) > 20
    for index in (0, 9_999, 19_999):
        sample = source[index]
        assert sample.pixels.shape == (32, 32, 3)
        # Every caption of this set names its class.
        assert source.class_names[sample.label or 0] in sample.captions[0]
    batches = [
        list(read_batches(source, TransformConfig(size_px=32, flip=0.5), seed=0, workers=workers,
                          position_ranges=[range(i, i + 64) for i in range(0, 320, 64)]))
        for workers in (0, 2)
    ]  # fmt: skip
    for first, second in zip(*batches, strict=True):
        assert first.pixels.equal(second.pixels)
        assert first.labels is not None
        assert first.labels.equal(second.labels)


def test_photos(real_data: Path) -> None:
    source = FolderConfig(path=real_data / "photos").open()
    assert source.summary.sentence() == "1,000 pictures, 1,000 classes, captions (metadata.jsonl)"
    found = survey(source)
    assert found.bad == ()
    assert found.height_px.largest > 320  # the size before the pictures were shrunk for this folder
    config = TransformConfig(size_px=64, crop=LocalCrop(scale_px=72), flip=0.5)
    (batch,) = read_batches(source, config, seed=0, position_ranges=[range(200)], workers=0)
    assert batch.bad == ()
    assert batch.pixels.shape == (200, 3, 64, 64)
    assert len({(r.original_height_px, r.original_width_px) for r in batch.records}) > 50


def test_emoji(real_data: Path) -> None:
    source = FolderConfig(path=real_data / "emoji" / "train").open()
    assert source.summary.sentence() == "1,360 pictures, no classes, captions (metadata.jsonl)"
    assert len(source.captions()) == 1360
    pixels = source[100].pixels
    assert pixels.shape == (128, 128, 3)
    assert np.median(pixels[0]) == 255


def test_cifar10_shrunk_by_class_tells_only_the_super_class(real_data: Path) -> None:
    source = load_recipe(
        "cifar10-entangled", [f"data.source.of.path={real_data / 'cifar10' / 'train-*.tar'}"]
    ).data.source.open()
    assert source.class_names == ("vehicle", "animal") and len(source) == 20_000
    for index in range(0, 20_000, 1999):
        sample = source[index]
        assert sample.captions == (source.class_names[sample.label or 0],)
        assert (sample.attributes["class"] in ("airplane", "automobile", "ship", "truck")) == (sample.label == 0)
