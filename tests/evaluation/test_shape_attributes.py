from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from open_ldm.data.shape_words import KINDS, ShapeWords, shapes_in
from open_ldm.data.transforms import CenterCrop, TransformConfig, transform
from open_ldm.evaluation.shape_attributes import (
    UNCLEAR,
    Agreement,
    agreement,
    mean_agreement,
    read_shapes,
)
from open_ldm.sources.shape_painting import DrawnShape
from open_ldm.sources.shapes import ShapesConfig


def views(side: int, count: int, two_shapes: int, blur: float = 0) -> Iterator[tuple[Tensor, tuple[DrawnShape, ...], bool]]:
    """Centred views with their truth, and whether they are mirrored."""
    source = ShapesConfig(length=count, seed=11, two_shapes=two_shapes, split="all").open()
    config = TransformConfig(size_px=side, crop=CenterCrop(), flip=0.5)
    for index in range(count):
        sample = source[index]
        view = transform(sample.pixels, (sample.original_height_px, sample.original_width_px), config, 0, index)
        picture = Image.fromarray(view.pixels.permute(1, 2, 0).numpy()).filter(ImageFilter.GaussianBlur(blur))
        yield torch.from_numpy(np.array(picture)).permute(2, 0, 1), sample.attributes["shapes"], view.record.flip


@pytest.mark.parametrize(("side", "blur"), [(32, 0), (32, 1), (64, 0), (64, 2)])
@pytest.mark.parametrize("two_shapes", [0, 1])
def test_real_views_are_read_right(side: int, blur: float, two_shapes: int) -> None:
    shares = mean_agreement(
        [agreement(pixels, shapes, mirrored=flip) for pixels, shapes, flip in views(side, 120, two_shapes, blur)]
    )
    assert min(shares.colour, shares.kind, shares.place, shares.size, shares.count) > 0.95, shares
    assert shares.all > 0.95


@pytest.mark.parametrize("two_shapes", [0, 1])
def test_noise_of_a_generator_does_not_hide_the_shapes(two_shapes: int) -> None:
    random = np.random.default_rng(0)
    agreements = []
    for pixels, shapes, flip in views(32, 120, two_shapes):
        noisy = (pixels.numpy() + random.normal(0, 12, pixels.shape)).clip(0, 255).astype(np.uint8)
        agreements.append(agreement(torch.from_numpy(noisy), shapes, mirrored=flip))
    assert mean_agreement(agreements).all > 0.95


def changed(words: ShapeWords, **change: str) -> tuple[ShapeWords, ...]:
    fields = {name: getattr(words, name) for name in ("colour", "kind", "size", "place")}
    return (ShapeWords(**{**fields, **change}),)


WRONG: dict[str, Callable[[ShapeWords], tuple[ShapeWords, ...]]] = {
    "colour": lambda words: changed(words, colour="green" if words.colour != "green" else "purple"),
    "kind": lambda words: changed(words, kind="cross" if words.kind != "cross" else "circle"),
    "place": lambda words: changed(words, place="left" if words.place == "right" else "right"),
    "size": lambda words: changed(words, size="small" if words.size == "large" else "large"),
}


@pytest.mark.parametrize("attribute", WRONG)
def test_one_wrong_word_is_noticed_and_only_that_one(attribute: str) -> None:
    agreements = [agreement(pixels, WRONG[attribute](shapes[0]), mirrored=flip) for pixels, shapes, flip in views(32, 80, 0)]
    shares = vars(mean_agreement(agreements))
    assert shares.pop(attribute) < 0.05
    others = [shares[name] for name in ("colour", "kind", "place", "size", "count") if name != attribute]
    assert min(others) > 0.95
    assert (shares["all"] > 0.95) == (attribute == "size")


def test_captions_of_other_pictures_do_not_agree() -> None:
    for two_shapes in (0, 1):
        seen = list(views(32, 120, two_shapes))
        others = [agreement(pixels, following[1], mirrored=flip) for (pixels, _, flip), following in itertools.pairwise(seen)]
        assert mean_agreement(others).all < 0.08


def test_without_the_mirror_left_and_right_are_wrong() -> None:
    flipped = [(pixels, shapes) for pixels, shapes, flip in views(32, 80, 1) if flip]
    shares = mean_agreement([agreement(pixels, shapes) for pixels, shapes in flipped])
    assert shares.place < 0.05
    assert shares.colour > 0.95


def canvas(*boxes: tuple[tuple[int, int, int], slice, slice], side: int = 32) -> Tensor:
    pixels = torch.full((3, side, side), 240, dtype=torch.uint8)
    for colour, rows, columns in boxes:
        pixels[:, rows, columns] = torch.tensor(colour, dtype=torch.uint8)[:, None, None]
    return pixels


RED, BLUE, CYAN = (215, 35, 45), (40, 80, 220), (0, 225, 235)


def test_a_square_drawn_by_hand() -> None:
    (shape,) = read_shapes(canvas((RED, slice(8, 22), slice(2, 16))))
    assert (shape.colour, shape.kind, shape.size) == ("red", "square", "large")
    assert shape.x == pytest.approx(9 / 32, abs=0.02)
    assert shape.y == pytest.approx(15 / 32, abs=0.02)
    assert shape.extent == pytest.approx(14 / 32, abs=0.02)
    assert shape.overlap > 0.95
    assert agreement(canvas((RED, slice(8, 22), slice(2, 16))), shapes_in("a large red square on the left")).all


def test_touching_shapes_are_told_apart() -> None:
    pixels = canvas((RED, slice(8, 22), slice(2, 16)), (BLUE, slice(10, 19), slice(16, 25)))
    assert [(shape.colour, shape.kind, shape.size) for shape in read_shapes(pixels)] == [
        ("red", "square", "large"),
        ("blue", "square", "small"),
    ]
    said = "a large red square to the left of a small blue square"
    assert agreement(pixels, shapes_in(said)) == Agreement(True, True, True, True, True)
    swapped = agreement(pixels, shapes_in("a large red square to the right of a small blue square"))
    assert (swapped.colour, swapped.place, swapped.all) == (True, False, False)


def test_nothing_noise_and_odd_things_agree_with_nothing() -> None:
    said = shapes_in("a large red circle on the left")
    assert read_shapes(canvas()) == []
    assert agreement(canvas(), said) == Agreement(False, False, False, False, False)
    noise = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (20, 3, 32, 32), dtype=np.uint8))
    assert not any(agreement(picture, said).all for picture in noise)
    (line,) = read_shapes(canvas((RED, slice(14, 17), slice(2, 30))))
    assert line.kind == UNCLEAR
    (cyan,) = read_shapes(canvas((CYAN, slice(8, 22), slice(2, 16))))
    assert cyan.colour == UNCLEAR


def test_a_shape_too_many_is_noticed() -> None:
    pixels = canvas((RED, slice(8, 22), slice(2, 16)), (BLUE, slice(2, 11), slice(20, 29)))
    found = agreement(pixels, shapes_in("a large red square on the left"))
    assert (found.colour, found.kind, found.place, found.size) == (True, True, True, True)
    assert not found.count
    assert not found.all


def test_half_a_colour_is_not_the_colour() -> None:
    """A square that is half red and half blue is two things, neither of them a red square."""
    pixels = canvas((RED, slice(8, 22), slice(2, 9)), (BLUE, slice(8, 22), slice(9, 16)))
    assert not agreement(pixels, shapes_in("a large red square on the left")).all


def test_every_kind_is_distinguished_from_every_other() -> None:
    seen: dict[str, set[str]] = {kind: set() for kind in KINDS}
    for pixels, shapes, _ in views(64, 100, 0):
        seen[shapes[0].kind].update(shape.kind for shape in read_shapes(pixels))
    assert seen == {kind: {kind} for kind in KINDS}


def test_mean_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no pictures"):
        mean_agreement([])
