"""What is measured of whole pictures: exact formulas, and what is unknown says so."""

from __future__ import annotations

import colorsys
import math
from dataclasses import replace

import numpy as np
import pytest

from open_ldm.data.measures import MEASURES, measure
from open_ldm.data.sample import Sample, SourceSummary
from open_ldm.data.survey import survey
from open_ldm.sources.shapes import ShapesConfig

COLOUR = ("saturation", "brightness")


def sample(pixels: np.ndarray) -> Sample:
    return Sample("x", pixels.astype(np.uint8), *pixels.shape[:2])


def one_colour(*rgb: int) -> Sample:
    return sample(np.tile(np.array(rgb), (3, 5, 1)))


@pytest.mark.parametrize(
    ("rgb", "saturation", "brightness"),
    [
        ((0, 0, 0), 0, 0),
        ((255, 255, 255), 0, 100),
        ((51, 51, 51), 0, 20),
        ((255, 0, 0), 100, 29.9),
        ((0, 255, 0), 100, 58.7),
        ((0, 0, 255), 100, 11.4),
        ((102, 51, 51), 20, 0.299 * 40 + 0.701 * 20),
    ],
)
def test_colour_of_plain_pictures(rgb: tuple[int, int, int], saturation: float, brightness: float) -> None:
    found = measure(one_colour(*rgb), COLOUR)
    assert found == pytest.approx({"saturation": saturation, "brightness": brightness}, abs=1e-5)


def test_colour_is_the_mean_over_all_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (17, 23, 3))
    chroma, luma = [], []
    for red, green, blue in pixels.reshape(-1, 3) / 255:
        _, s, v = colorsys.rgb_to_hsv(red, green, blue)
        chroma.append(100 * s * v)
        luma.append(100 * (0.299 * red + 0.587 * green + 0.114 * blue))
    found = measure(sample(pixels), COLOUR)
    assert found == pytest.approx({"saturation": np.mean(chroma), "brightness": np.mean(luma)}, rel=1e-6)
    assert all(float(np.float32(value)) == value for value in found.values())


def test_colour_of_other_channels_is_unknown_and_only_what_is_asked_is_measured() -> None:
    found = measure(sample(np.zeros((4, 4, 5))), COLOUR)
    assert all(math.isnan(value) for value in found.values())
    assert set(measure(one_colour(1, 2, 3), ["brightness"])) == {"brightness"}
    assert measure(one_colour(1, 2, 3), ()) == {}


def test_a_survey_measures_only_what_it_is_asked_for() -> None:
    source = ShapesConfig(length=200).open()
    plain = survey(source)
    assert plain.measured == {}
    assert plain.to_json().keys().isdisjoint({"measured", *MEASURES})
    found = survey(source, measures=COLOUR)
    assert found.to_json().keys() - plain.to_json().keys() == set(COLOUR)
    values = [measure(source[index], COLOUR) for index in range(200)]
    for name in COLOUR:
        quantiles = found.measured[name].quantiles
        every = sorted(value[name] for value in values)
        assert quantiles is not None
        assert every[0] <= quantiles.smallest < quantiles.median < quantiles.largest <= every[-1]
        assert found.measured[name].pictures == 64
    assert "saturation" in found.text() and "saturation" not in plain.text()
    assert replace(found, measured={}) == plain


class Grey:
    """Five channels: their colour is unknown."""

    class_names: tuple[str, ...] = ()
    summary = SourceSummary(3, 0, 0, "test", 5)

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Sample:
        return sample(np.full((4, 4, 5), index))

    def size_of(self, index: int) -> tuple[int, int]:
        return 4, 4

    def captions(self) -> list[str]:
        return []


def test_a_survey_says_what_is_unknown() -> None:
    found = survey(Grey(), measures=["saturation"])  # type: ignore[arg-type]
    assert found.measured["saturation"].quantiles is None
    assert "saturation is unknown for 3 of 3 pictures: for such ones the control is dropped" in found.problems()
    assert "unknown" in found.text()
    assert found.to_json()["saturation"] is None
