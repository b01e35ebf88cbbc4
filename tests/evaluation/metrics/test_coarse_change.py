"""Coarse change: what is known to change is found, and what only loses detail is not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from open_ldm.core.errors import ConfigError, DataError
from open_ldm.evaluation.bootstrap import BootstrapConfig
from open_ldm.evaluation.features.resize import coarsened
from open_ldm.evaluation.metrics.coarse_change import coarse_change, coarse_floor, compared_detail

KEPT = (8, 8)


def blocks(count: int, seed: int = 0, side: int = 32) -> Tensor:
    """Pictures of 4x4 random colours, uint8 [count, 3, side, side]."""
    colours = torch.randint(40, 216, (count, 3, 4, 4), generator=torch.Generator().manual_seed(seed))
    return colours.repeat_interleave(side // 4, 2).repeat_interleave(side // 4, 3).to(torch.uint8)


def test_a_picture_of_another_seed_under_each_value_changes_as_much_as_seeds_do() -> None:
    found = coarse_change("size", {"8x8": blocks(300, 1), "32x32": blocks(300, 2)}, KEPT)
    assert found.estimate("c", BootstrapConfig()).value == pytest.approx(1, abs=0.05)
    assert coarse_change("size", {"8x8": blocks(30), "32x32": blocks(30)}, KEPT).estimate("c", BootstrapConfig()).value == 0


def test_the_share_is_that_of_the_definition() -> None:
    """Against the double sum of the definition, written out."""
    pixels = {value: blocks(7, seed) for seed, value in enumerate(("8x8", "16x16", "32x32"))}
    seen = {value: coarsened(each.double() / 127.5 - 1, KEPT).flatten(1) for value, each in pixels.items()}

    def apart(one: Tensor, other: Tensor) -> float:
        return float((one - other).square().mean())

    pairs = (("8x8", "16x16"), ("8x8", "32x32"), ("16x16", "32x32"))
    above = sum(apart(seen[a][i], seen[b][i]) for a, b in pairs for i in range(7)) / 3
    below = sum(apart(each[i], each[j]) for each in seen.values() for i in range(7) for j in range(7) if i != j) / 6 / 3
    found = coarse_change("size", pixels, KEPT)
    assert found.estimate("c", BootstrapConfig()).value == pytest.approx(above / below, rel=1e-6)
    assert set(found.pairs) == {"8x8|16x16", "8x8|32x32", "16x16|32x32"}


def test_detail_alone_is_no_change_and_a_new_colour_of_some_seeds_is_their_share() -> None:
    pictures = blocks(60)
    noisy = (pictures.int() + torch.randint(-30, 31, pictures.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 255)
    fine = coarse_change("size", {"8x8": pictures, "32x32": noisy.to(torch.uint8)}, KEPT).estimate("c", BootstrapConfig())
    assert fine.value < 0.02
    partly = torch.cat([blocks(20, 5), pictures[20:]])
    third = coarse_change("size", {"8x8": pictures, "32x32": partly}, KEPT).estimate("c", BootstrapConfig())
    assert third.value == pytest.approx(1 / 3, abs=0.05) and third.low > fine.high


def test_the_mirror_image_is_what_a_flip_shows() -> None:
    pictures = blocks(10)
    assert float(coarse_change("flip", {"0": pictures, "1": pictures.flip(-1)}, KEPT).changes.max()) == 0
    assert float(coarse_change("flip", {"0": pictures, "1": pictures}, KEPT).changes.min()) > 0


def test_the_floor_is_what_enlarging_a_coarse_original_does() -> None:
    floor = coarse_floor("size", blocks(30), ("8x8", "32x32"), KEPT)
    assert floor is not None and 0 < floor.estimate("c", BootstrapConfig()).value < 0.02
    assert coarse_floor("scanner", blocks(4), ("a", "b"), KEPT) is None


def test_the_detail_that_is_compared_is_what_all_sizes_show() -> None:
    assert compared_detail("size", [(8, 8), (16, 16), (128, 128)], (32, 32)) == (8, 8)
    assert compared_detail("size", [(8, 16), (64, 64)], (32, 32)) == (8, 8)  # a square of it shows 8 columns
    assert compared_detail("flip", [(0,), (1,)], (32, 64)) == (8, 16)


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match="crop is there to change whole pictures"):
        compared_detail("crop", [(0, 0), (4, 0)], (32, 32))
    with pytest.raises(ConfigError, match="no size is below"):
        compared_detail("size", [(64, 64), (128, 128)], (32, 32))
    with pytest.raises(DataError, match="1 pictures under 2 values"):
        coarse_change("size", {"8x8": blocks(1), "32x32": blocks(1)}, KEPT)
    with pytest.raises(DataError, match="all pictures are equal"):
        coarse_change("size", {"8x8": blocks(1).repeat(3, 1, 1, 1), "32x32": blocks(1).repeat(3, 1, 1, 1)}, KEPT)
