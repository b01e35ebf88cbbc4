"""Coarse change: what is known to change is found, and what only loses detail is not."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from open_ldm.core.errors import ConfigError, DataError
from open_ldm.core.pictures import to_pixels
from open_ldm.evaluation.bootstrap import BootstrapConfig, Estimate
from open_ldm.evaluation.metrics.coarse_change import (
    CoarseChange,
    coarse,
    coarse_change,
    compared_detail,
    require_comparable,
)
from open_ldm.evaluation.metrics.content_change import changed_as_real

KEPT = (8, 8)


def blocks(count: int, seed: int = 0, side: int = 32) -> Tensor:
    """Pictures of 4x4 random colours, uint8 [count, 3, side, side]."""
    colours = torch.randint(40, 216, (count, 3, 4, 4), generator=torch.Generator().manual_seed(seed))
    return colours.repeat_interleave(side // 4, 2).repeat_interleave(side // 4, 3).to(torch.uint8)


def measured(pixels: Mapping[str, Tensor], control: str = "size") -> CoarseChange:
    return coarse_change({value: coarse(control, value, each, KEPT) for value, each in pixels.items()})


def share(pixels: Mapping[str, Tensor], control: str = "size") -> Estimate:
    return measured(pixels, control).estimate("c", BootstrapConfig())


def test_a_picture_of_another_seed_under_each_value_changes_as_much_as_seeds_do() -> None:
    assert share({"8x8": blocks(300, 1), "32x32": blocks(300, 2)}).value == pytest.approx(1, abs=0.05)
    assert share({"8x8": blocks(30), "32x32": blocks(30)}).value == 0


def test_the_share_is_that_of_the_definition() -> None:
    """Against the double sum of the definition, written out."""
    pixels = {value: blocks(7, seed) for seed, value in enumerate(("8x8", "16x16", "32x32"))}
    seen = {
        value: F.interpolate(each.double() / 127.5 - 1, size=KEPT, mode="bicubic", antialias=True)
        for value, each in pixels.items()
    }

    def apart(one: Tensor, other: Tensor) -> float:
        return float((one - other).square().mean())

    pairs = (("8x8", "16x16"), ("8x8", "32x32"), ("16x16", "32x32"))
    above = sum(apart(seen[a][i], seen[b][i]) for a, b in pairs for i in range(7)) / 3
    below = sum(apart(each[i], each[j]) for each in seen.values() for i in range(7) for j in range(7) if i != j) / 6 / 3
    assert share(pixels).value == pytest.approx(above / below, rel=1e-5)
    assert set(measured(pixels).pairs) == {"8x8|16x16", "8x8|32x32", "16x16|32x32"}


def test_the_interval_covers_the_value_as_often_as_it_says() -> None:
    """The mean distance to others is one over pairs: a bootstrap that holds the others fixed covers 0.88 of what it says."""
    draws, hits, change = torch.Generator().manual_seed(0), 0, 0.1**0.5
    for _ in range(300):
        pictures = torch.randn(48, 4, generator=draws)
        other = pictures + change * torch.randn(48, 4, generator=draws)
        found = coarse_change({"a": pictures, "b": other}).estimate("c", BootstrapConfig())
        hits += found.low <= change**2 / (2 + change**2) <= found.high
    assert 0.91 <= hits / 300 <= 0.98


def test_detail_alone_is_no_change_and_a_new_colour_of_some_seeds_is_their_share() -> None:
    pictures = blocks(60)
    noisy = (pictures.int() + torch.randint(-30, 31, pictures.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 255)
    fine = share({"8x8": pictures, "32x32": noisy.to(torch.uint8)})
    assert fine.value < 0.02
    partly = torch.cat([blocks(20, 5), pictures[20:]])
    third = share({"8x8": pictures, "32x32": partly})
    assert third.value == pytest.approx(1 / 3, abs=0.05) and third.low > fine.high


def test_the_mirror_image_is_what_a_flip_shows_and_a_column_of_that_name_is_no_flip() -> None:
    pictures = {"0": blocks(10), "1": blocks(10).flip(-1)}
    assert share(pictures, "flip").value == pytest.approx(0, abs=1e-10)
    assert share(pictures, "").value > 0.1 and share({"0": blocks(10), "1": blocks(10)}, "flip").value > 0.1


@pytest.mark.parametrize("channels", [1, 4])
def test_real_pictures_that_were_small_are_coarse_alike_and_a_column_has_no_floor(channels: int) -> None:
    pictures = blocks(30)[:, :1].repeat(1, channels, 1, 1)
    real = changed_as_real("size", pictures, ("8x8", "32x32"))
    assert real is not None and 0 < share(real).value < 0.02
    assert changed_as_real("", pictures, ("a", "b")) is None


def test_pictures_are_seen_as_images_whatever_their_depth() -> None:
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    seen = coarse("size", "8x8", to_pixels(images), (8, 8))
    assert seen.shape == (2, 3 * 64) and seen.dtype == torch.float32 and float(seen.abs().max()) < 1.5


def test_the_detail_that_is_compared_is_what_all_sizes_show() -> None:
    assert compared_detail("size", [(8, 8), (16, 16), (128, 128)], (32, 32)) == (8, 8)
    assert compared_detail("size", [(8, 16), (64, 64)], (32, 32)) == (8, 8)  # a square of it shows 8 columns
    assert compared_detail("size", [(0.4, 0.4), (64, 64)], (32, 32)) == (1, 1)
    assert compared_detail("flip", [(0,), (1,)], (32, 64)) == (8, 16)
    assert compared_detail("", [(0,), (1,), (2,)], (32, 32)) == (8, 8)


def test_mistakes_are_named() -> None:
    for control in ("crop", "turn", "colour"):
        with pytest.raises(ConfigError, match=f"{control} is there to change whole pictures"):
            require_comparable(control)
    for control in ("size", "flip", ""):
        require_comparable(control)
    with pytest.raises(ConfigError, match="no size is below"):
        compared_detail("size", [(64, 64), (128, 128)], (32, 32))
    with pytest.raises(DataError, match="1 pictures under 2 values"):
        share({"8x8": blocks(1), "32x32": blocks(1)})
    with pytest.raises(DataError, match="all pictures are equal"):
        share({"8x8": blocks(1).repeat(3, 1, 1, 1), "32x32": blocks(1).repeat(3, 1, 1, 1)})
