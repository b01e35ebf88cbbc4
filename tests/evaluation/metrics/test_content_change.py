"""Content change: known shares are found, what a control must change does not count, and readers' errors are the floor."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from open_ldm.core.errors import ConfigError, DataError
from open_ldm.core.pictures import to_images, to_pixels
from open_ldm.evaluation.features.base import ExtractorId
from open_ldm.evaluation.metrics.content_change import (
    compared_attributes,
    content_change,
    read_changes,
    shown_size_px,
)
from open_ldm.evaluation.readers import Reading, ShapesReader
from open_ldm.sources.shapes import DrawnShape, Scene, draw

SIZES = ("8x8", "16x16", "32x32")
LEFT_ALONE = {"size": ShapesReader.attributes, "flip": ("colour", "kind", "size", "count"), "crop": ("colour", "kind")}


def shape(colour: str = "red", x: float = 0.3) -> Tensor:
    drawn = DrawnShape(colour, "circle", "large", "left", x, 0.5, 0.45)
    return torch.from_numpy(draw(Scene(32, 32, 240, (drawn,)))).permute(2, 0, 1)


@pytest.mark.parametrize("changing", [0, 3, 10])
def test_a_model_that_changes_the_colour_of_known_seeds_reads_their_share(changing: int) -> None:
    """A stand-in for a model: under one of three sizes, `changing` of ten seeds turn from red to blue."""
    reader = ShapesReader()
    pictures = {value: torch.stack([shape() for _ in range(10)]) for value in SIZES}
    pictures["8x8"] = torch.stack([shape("blue" if seed < changing else "red") for seed in range(10)])
    readings = {value: reader.read(each) for value, each in pictures.items()}
    found = content_change("size", readings, reader.attributes)
    assert float(found.changed.double().mean()) == changing / 10
    assert found.attributes == {name: changing / 10 if name == "colour" else 0 for name in reader.attributes}
    share = {"8x8|16x16": changing / 10, "8x8|32x32": changing / 10, "16x16|32x32": 0}
    assert found.pairs == share


def test_a_picture_counts_once_whichever_values_and_attributes_differ() -> None:
    """Against a loop over all readings: a picture that never changes, and one for each of three pairs of values."""
    readings: dict[str, list[Reading]] = {
        "a": [{"x": 1, "y": 1}, {"x": 1, "y": 1}, {"x": 1, "y": 2}, {"x": 0, "y": 1}],
        "b": [{"x": 1, "y": 1}, {"x": 2, "y": 1}, {"x": 1, "y": 1}, {"x": 1, "y": 1}],
        "c": [{"x": 1, "y": 1}, {"x": 2, "y": 1}, {"x": 1, "y": 1}, {"x": 2, "y": 1}],
    }
    for names in (("x",), ("y",), ("x", "y")):
        wanted = [
            any(readings[a][row][name] != readings[b][row][name] for a, b in itertools.combinations("abc", 2) for name in names)
            for row in range(4)
        ]
        assert content_change("size", readings, names).changed.tolist() == wanted


def test_the_mirror_image_is_what_a_flip_is_expected_to_show() -> None:
    reader = ShapesReader()
    assert {name: compared_attributes(name, reader, None) for name in LEFT_ALONE} == LEFT_ALONE
    mirrored_too = {"0": reader.read(torch.stack([shape(), shape()])), "1": reader.read(torch.stack([shape(x=0.7), shape()]))}
    assert content_change("flip", mirrored_too, ("colour", "kind")).changed.tolist() == [False, False]
    assert content_change("flip", mirrored_too, ("place",)).changed.tolist() == [False, True]  # the second was not mirrored
    assert content_change("size", mirrored_too, ("place",)).changed.tolist() == [True, False]


class Threshold:
    """Reads whether a picture has a bright pixel: something that a small picture cannot hold."""

    id = ExtractorId("threshold", "none", "none")
    attributes = ("bright",)

    def read(self, pixels: Tensor) -> list[Reading]:
        return [{"bright": bool(one.amax() > 200)} for one in pixels]


def test_the_floor_is_what_shrinking_alone_makes_the_reader_read_differently() -> None:
    point = torch.zeros(4, 3, 16, 16, dtype=torch.uint8)
    point[0, :, 8, 8] = 255  # gone at 4 px
    point[1, :, 4:12, 4:12] = 255  # still bright at 4 px
    found = read_changes(point, Threshold(), "size", ("4x4", "16x16", "64x64"), ("bright",))
    assert found is not None and found.changed.tolist() == [True, False, False, False]
    assert found.pairs == {"4x4|16x16": 0.25, "4x4|64x64": 0.25, "16x16|64x64": 0}
    only_large = read_changes(point, Threshold(), "size", ("16x16", "64x64"), ("bright",))
    assert only_large is not None and not only_large.changed.any()
    flips = read_changes(point, Threshold(), "flip", ("0", "1"), ("bright",))
    assert flips is not None and not flips.changed.any()
    assert read_changes(point, Threshold(), "crop", ("0,0", "4,0"), ("bright",)) is None


def test_a_view_shows_no_more_of_an_original_than_its_crop() -> None:
    assert shown_size_px((8, 8), (32, 32)) == (8, 8)
    assert shown_size_px((8, 16), (32, 32)) == (8, 8)  # a square is cut from the middle of the wide picture
    assert shown_size_px((64, 48), (32, 32)) == (32, 32)


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match=r"no attribute 'color'; needed: one of .*did you mean 'colour'"):
        compared_attributes("size", ShapesReader(), ["color"])
    with pytest.raises(ConfigError, match="is there to change all"):
        compared_attributes("colour", type("OnlyColour", (ShapesReader,), {"attributes": ("colour",)})(), None)
    with pytest.raises(DataError, match="1 pictures under 1 values"):
        content_change("size", {"8x8": [{"x": 1}]}, ("x",))


def test_pixels_survive_the_way_through_images() -> None:
    assert torch.equal(to_pixels(to_images(shape()[None])), shape()[None])
