"""A data set in two parts that share nothing."""

from __future__ import annotations

import pytest

from open_ldm.core.errors import ConfigError
from open_ldm.data.held_out import hold_out
from open_ldm.data.sources.shapes import ShapesConfig


def ids(source: object) -> list[str]:
    return [source.sample_id(index) for index in range(len(source))]  # type: ignore[attr-defined, arg-type]


@pytest.mark.parametrize("count", [1, 7, 25])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_sample_is_in_one_part(count: int, seed: int) -> None:
    source = ShapesConfig(length=50).open()
    parts = hold_out(source, count, seed)
    assert len(parts.held_out) == count
    assert len(parts.training) == 50 - count
    assert sorted(ids(parts.held_out) + ids(parts.training)) == sorted(ids(source))
    assert ids(parts.training) == [name for name in ids(source) if name not in set(ids(parts.held_out))]


def test_a_part_reads_the_samples_it_names() -> None:
    parts = hold_out(ShapesConfig(length=20).open(), 5, seed=3)
    for part in (parts.training, parts.held_out):
        assert [part[index].id for index in range(len(part))] == ids(part)
        assert part.size_of(1) == (part[1].original_height_px, part[1].original_width_px)
        assert part.summary.pictures == len(part)


def test_the_draw_follows_from_the_seed() -> None:
    source = ShapesConfig(length=200).open()
    drawn = [ids(hold_out(source, 10, seed).held_out) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    one, other = hold_out(source, 10, 0), hold_out(source, 11, 0)
    assert len({source.fingerprint, one.training.fingerprint, one.held_out.fingerprint, other.training.fingerprint}) == 4


def test_more_than_half_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"held_out.pictures=11 of 20 pictures; needed: at most half"):
        hold_out(ShapesConfig(length=20).open(), 11, 0)
