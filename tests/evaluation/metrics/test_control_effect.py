"""Control effect: 0 and 1 are exact, between them it is the share of real pictures' change, and mirrors are found."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from open_ldm.controls import Crop
from open_ldm.core.errors import ConfigError, DataError
from open_ldm.core.pictures import to_images
from open_ldm.data.transforms import TransformConfig, resampled
from open_ldm.evaluation.metrics.control_effect import (
    LEAST_REAL,
    border_energy,
    detail_energy,
    mirror_effects,
    nearest_value,
    real_statistic,
    slope_effects,
    statistic_of,
)
from open_ldm.evaluation.readers import ShapesReader
from open_ldm.sources.loader import read_batches
from open_ldm.sources.shapes import DrawnShape, Scene, ShapesConfig, draw
from tests.evaluation.sets import images
from tests.helpers import randn

REAL = {"8x8": 0.0, "16x16": 2.0, "32x32": 5.0}


def noise(count: int, size_px: int = 32) -> Tensor:
    return torch.randint(0, 256, (count, 3, size_px, size_px), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0, -0.5])
def test_it_is_the_share_of_the_change_of_real_pictures(share: float) -> None:
    """Samples that change by `share` of what real pictures do, each about a level of its own, which cancels."""
    levels = randn(6, seed=1).double()
    samples = {value: levels + share * mean for value, mean in REAL.items()}
    assert slope_effects(samples, REAL).tolist() == pytest.approx([share] * 6, abs=1e-12)


def test_it_is_the_slope_of_a_regression() -> None:
    samples = {value: randn(5, seed=number).double() for number, value in enumerate(REAL)}
    means = [float(each.mean()) for each in samples.values()]
    slope = np.polyfit(list(REAL.values()), means, 1)[0]
    assert float(slope_effects(samples, REAL).mean()) == pytest.approx(slope, rel=1e-9)


def test_detail_is_what_does_not_survive_at_the_smaller_size() -> None:
    """Against Pillow's resampling, which rounds to 8 bits in between; nothing is left of what has no detail."""
    pixels = noise(3)
    found = detail_energy(pixels, (8, 8))
    for one, energy in zip(pixels, found, strict=True):
        rows = one.permute(1, 2, 0).numpy()
        left = resampled(resampled(rows, (8, 8)), (32, 32))
        assert float(energy) == pytest.approx(np.square((rows.astype(float) - left) / 255).mean(), rel=0.01)
    assert float(detail_energy(torch.full((1, 3, 32, 32), 90, dtype=torch.uint8), (8, 8))) < 1e-10
    smooth = ((images(1, 32) + 1) * 127.5).round().to(torch.uint8)
    assert float(detail_energy(smooth, (8, 8))) < 0.02 * float(found[0])


def test_edges_have_energy_where_something_is_cut() -> None:
    grey = torch.full((4, 3, 32, 32), 200, dtype=torch.uint8)
    grey[1, :, 10:20, 10:20] = 0  # lies free
    grey[2, :, 10:20, 0:10] = 0  # is cut by the left edge
    grey[3, :, 10:20, 22:32] = 0  # is cut by the right edge
    empty, inside, left, right = border_energy(grey).tolist()
    step = to_images(torch.tensor([0, 200], dtype=torch.uint8)).double().diff().item() / 2
    edges = 4 * 32 + 4 * 28  # pixels of two of the edges, which are 32 / 8 wide
    assert empty == inside == 0
    assert left == pytest.approx(2 * 4 * step**2 / edges) and right == pytest.approx(-left)  # two outlines, 4 pixels of each


def test_views_of_other_crops_differ_in_it() -> None:
    """Real views of wide and tall drawings, whose random crops cut the shapes on one side or the other."""
    source = ShapesConfig(length=3000, two_shapes=0).open()
    batches = read_batches(source, TransformConfig(size_px=16), seed=0, position_ranges=[range(1500)], workers=0)
    (batch,) = batches
    near = nearest_value(Crop().numbers_of(batch.records), torch.tensor([[0.0, 0.0], [0.0, 250.0]]))
    found = real_statistic(border_energy(batch.pixels), near, ("0,0", "0,4"))
    assert found.means["0,4"] > found.means["0,0"] and min(found.counts.values()) > 50


def test_settings_belong_to_the_nearest_value_that_is_near() -> None:
    values = torch.tensor([[8.0, 8.0], [16.0, 16.0], [32.0, 32.0]]).log2()
    given = torch.tensor([[8.0, 9.0], [16.0, 14.0], [100.0, 100.0], [33.0, 44.0], [32.0, 16.0]]).log2()
    assert nearest_value(given, values).tolist() == [0, 1, -1, 2, -1]


def test_real_pictures_are_averaged_by_value_and_values_without_enough_are_left_out() -> None:
    near = torch.tensor([0] * LEAST_REAL + [1] * LEAST_REAL + [2] * (LEAST_REAL - 1) + [-1])
    statistics = torch.where(near == 1, 5.0, 1.0) + 0.01 * randn(len(near), seed=2)
    found = real_statistic(statistics, near, ("a", "b", "c"))
    assert found.means == {
        "a": pytest.approx(float(statistics[near == 0].mean())),
        "b": pytest.approx(float(statistics[near == 1].mean())),
    }
    assert found.left_out == ("c",) and found.counts == {"a": LEAST_REAL, "b": LEAST_REAL}
    with pytest.raises(DataError, match="too few real pictures"):
        real_statistic(statistics[:LEAST_REAL], near[:LEAST_REAL], ("a", "b"))
    with pytest.raises(DataError, match="do not differ for certain"):
        real_statistic(randn(40, seed=4), torch.arange(40) % 2, ("a", "b"))


def shape(x: float) -> Tensor:
    circle = DrawnShape("red", "circle", "large", "left", x, 0.5, 0.45)
    return torch.from_numpy(draw(Scene(32, 32, 240, (circle,)))).permute(2, 0, 1)


def test_a_mirrored_place_is_the_effect_of_a_flip() -> None:
    plain = torch.stack([shape(0.3), shape(0.3), torch.full((3, 32, 32), 240, dtype=torch.uint8)])
    flipped = torch.stack([shape(0.7), shape(0.3), torch.full((3, 32, 32), 240, dtype=torch.uint8)])
    assert mirror_effects(plain, flipped, ShapesReader()).tolist() == [1, 0, 0]  # an empty picture shows no place


def test_without_a_reader_the_mirror_image_must_be_nearer() -> None:
    plain = noise(3)
    flipped = torch.stack([plain[0].flip(-1), plain[1], (plain[2].flip(-1).float() * 0.9).to(torch.uint8)])
    assert mirror_effects(plain, flipped, None).tolist() == [1, 0, 1]


def test_controls_have_their_statistic() -> None:
    size = statistic_of("size", [(8, 8), (64, 64)], (32, 32))
    assert size.name == "detail beyond 8x8 px"
    assert torch.equal(size.measure(noise(2)), detail_energy(noise(2), (8, 8)))
    assert statistic_of("crop", [], (32, 32)).measure is border_energy
    with pytest.raises(ConfigError, match="no size is below that of the pictures"):
        statistic_of("size", [(32, 32), (64, 64)], (32, 32))
    with pytest.raises(ConfigError, match="cannot tell what aspect should change; needed: size, crop or flip"):
        statistic_of("aspect", [], (32, 32))
