"""Pictures made small."""

from __future__ import annotations

import pytest

from open_ldm.core.config import validate
from open_ldm.core.errors import ConfigError
from open_ldm.data.sources.shrunk import ShrunkConfig

SHAPES = {"kind": "shapes", "length": 40}


def config(**changes: object) -> ShrunkConfig:
    return validate(ShrunkConfig, {"of": SHAPES, "short_side_px": [8, 64], **changes}, source="test")


def test_pictures_are_shrunk_never_enlarged_and_say_so() -> None:
    source = config().open()
    sides = []
    for index in range(len(source)):
        sample, whole = source[index], source.inner[index]
        assert sample.pixels.shape[:2] == (sample.original_height_px, sample.original_width_px) == source.size_of(index)
        assert sample.pixels.shape[0] <= whole.pixels.shape[0] and sample.pixels.shape[1] <= whole.pixels.shape[1]
        assert (sample.captions, sample.label) == (whole.captions, whole.label)
        sides.append(min(sample.pixels.shape[:2]))
    assert min(sides) >= 8 and max(sides) <= 64 and len(set(sides)) > 10


def test_the_seed_decides_the_sizes_and_the_hashes() -> None:
    one, same, other = config().open(), config().open(), config(seed=1).open()
    sizes = [[source.size_of(index) for index in range(len(source))] for source in (one, same, other)]
    assert sizes[0] == sizes[1] != sizes[2]
    assert one.hashes == same.hashes and one.hashes.pictures != other.hashes.pictures
    assert one.hashes.captions == one.inner.hashes.captions and one.fingerprint != one.inner.fingerprint


def test_a_range_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="short_side_px"):
        config(short_side_px=[9, 8])
