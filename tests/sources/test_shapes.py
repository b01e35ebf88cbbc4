from __future__ import annotations

import pickle

import numpy as np
import pytest

from open_ldm.core.errors import ConfigError
from open_ldm.data.shape_words import CLASS_NAMES, COLOURS, HELD_OUT, KINDS, shapes_in, write_caption
from open_ldm.sources import open_source
from open_ldm.sources.shapes import ShapesConfig, ShapesSource


def source(**settings: object) -> ShapesSource:
    return ShapesConfig.model_validate({"length": 400, **settings}).open()


def test_pictures_are_functions_of_seed_and_index() -> None:
    first, again, other = source(), pickle.loads(pickle.dumps(source())), source(seed=1)
    for index in (0, 17, 399):
        np.testing.assert_array_equal(first[index].pixels, again[index].pixels)
        assert first[index].captions == again[index].captions
    assert [first[i].captions for i in range(9)] != [other[i].captions for i in range(9)]
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_train_never_shows_the_held_out_combinations_and_held_out_shows_nothing_else() -> None:
    for split, expected in (("train", False), ("held_out", True)):
        pairs = {(s.colour, s.kind) for i in range(400) for s in source(split=split).scene(i).shapes}
        assert {pair in HELD_OUT for pair in pairs} == {expected}
    train = {(s.colour, s.kind) for i in range(400) for s in source().scene(i).shapes}
    assert {colour for colour, _ in train} == set(COLOURS)
    assert {kind for _, kind in train} == set(KINDS)
    assert len(train) == 20
    everything = {(s.colour, s.kind) for i in range(400) for s in source(split="all").scene(i).shapes}
    assert len(everything) == 24


def test_captions_classes_and_sizes_say_what_is_drawn() -> None:
    shapes = source()
    sizes = set()
    for index in range(100):
        sample = shapes[index]
        drawn = sample.attributes["shapes"]
        assert len(drawn) in (1, 2)
        (caption,) = sample.captions
        assert [vars(words) for words in shapes_in(caption)] == [
            {name: getattr(shape, name) for name in ("colour", "kind", "size", "place")} for shape in drawn
        ]
        assert shapes.class_names[sample.label or 0] == f"{drawn[0].colour} {drawn[0].kind}"
        assert sample.label == shapes.label_of(index) and sample.captions == shapes.captions_of(index)
        assert sample.pixels.shape == (*shapes.size_of(index), 3)
        assert (sample.original_height_px, sample.original_width_px) == shapes.size_of(index)
        assert sample.id == shapes.sample_id(index)
        sizes.add(shapes.size_of(index))
        if len(drawn) == 2:
            left, right = sorted(drawn, key=lambda shape: shape.x)
            assert (left.place, right.place) == ("left", "right")
            assert left.colour != right.colour
        else:
            assert (drawn[0].x < 0.5) == (drawn[0].place == "left")
    ratios = [width / height for height, width in sizes]
    assert min(ratios) < 0.85
    assert max(ratios) > 1.18
    assert min(min(size) for size in sizes) < 30
    assert max(min(size) for size in sizes) > 120


def test_the_truth_lies_where_the_pixels_are() -> None:
    """Centre and extent of every shape, measured on the picture as deviation from the background."""
    shapes = source(two_shapes=0)
    for index in range(100):
        sample = shapes[index]
        (shape,) = sample.attributes["shapes"]
        height, width = sample.pixels.shape[:2]
        inked = np.abs(sample.pixels.astype(int) - sample.pixels[0, 0]).max(axis=2) > 60
        rows, columns = np.nonzero(inked)
        side = shape.extent * min(height, width)
        assert abs((columns.min() + columns.max() + 1) / 2 - shape.x * width) < 1.1
        assert abs((rows.min() + rows.max() + 1) / 2 - shape.y * height) < 2.1
        assert abs((columns.max() - columns.min() + 1) - side) < 2.1


def test_all_captions_of_a_split_are_listed_once() -> None:
    for settings in ({}, {"two_shapes": 0}, {"split": "held_out"}):
        shapes = source(**settings)
        listed = shapes.captions()
        assert len(set(listed)) == len(listed)
        assert {caption for i in range(400) for caption in shapes[i].captions} <= set(listed)
    assert len(source(two_shapes=0).captions()) == 20 * 2 * 2


def test_captions_are_read_back_and_other_sentences_refused() -> None:
    for caption in source().captions()[::7]:
        assert write_caption(shapes_in(caption)) == caption
    for wrong in (
        "",
        "red circle",
        "a red large circle",
        "a large pink circle on the left",
        "a large red circle on the left of it",
    ):
        with pytest.raises(ConfigError, match="is not a caption of the shapes"):
            shapes_in(wrong)


def test_captions_of_any_length_take_the_place_of_the_usual_sentence() -> None:
    usual, shapes = source(two_shapes=0), source(two_shapes=0, caption_lengths=[1, 3, 20])
    first = shapes.words_of(0)[0]
    assert shapes.captions_of(0) == shapes[0].captions
    assert shapes.captions_of(0)[:4] == (first.colour, first.kind, first.place, f"{first.colour} {first.kind} {first.place}")
    assert [len(caption.split()) for caption in shapes.captions_of(0)] == [1, 1, 1, 3, 20]
    listed = shapes.captions()
    assert len(set(listed)) == len(listed)
    assert {caption for i in range(400) for caption in shapes.captions_of(i)} <= set(listed)
    np.testing.assert_array_equal(shapes[0].pixels, usual[0].pixels)
    assert shapes.fingerprint != usual.fingerprint == source(two_shapes=0, caption_lengths=[]).fingerprint
    assert "caption_lengths" not in usual.config.model_dump_json()
    for wrong, why in (
        ({"two_shapes": 0.5}, "two_shapes=0"),
        ({"untold": ["colour"]}, "no untold"),
        ({"caption_lengths": [0]}, "greater than or equal to 1"),
        ({"caption_lengths": [21]}, "less than or equal to 20"),
        ({"caption_lengths": [4, 4]}, "each of them once"),
    ):
        with pytest.raises(ValueError, match=why):
            source(**{"two_shapes": 0, "caption_lengths": [4], **wrong})


def test_simpler_drawings_are_square_of_one_size_on_one_grey() -> None:
    simple = source(extents={"large": [0.48, 0.5]}, longest_aspect=1, background=[240, 240])
    for scene in map(simple.scene, range(100)):
        assert scene.height_px == scene.width_px and scene.background == 240
        assert {shape.size for shape in scene.shapes} == {"large"}
        assert all(0.48 <= shape.extent <= 0.5 for shape in scene.shapes)
    assert all("small" not in caption for caption in simple.captions())
    plain = source()
    assert {plain.scene(i).shapes[0].size for i in range(100)} == {"small", "large"}
    assert (
        plain.fingerprint
        == source(extents={"small": [0.3, 0.34], "large": [0.44, 0.5]}, longest_aspect=4 / 3, background=[222, 252]).fingerprint
    )
    assert plain.fingerprint != simple.fingerprint
    for wrong in ({"extents": {}}, {"extents": {"large": [0.5, 0.6]}}, {"longest_aspect": 5}, {"background": [250, 240]}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            source(**wrong)


def test_heights_are_those_of_the_middle() -> None:
    for heights in ([0.5, 0.5], [0.3, 0.4]):
        placed = [shape.y for i in range(200) for shape in source(two_shapes=0.5, heights=heights).scene(i).shapes]
        assert heights[0] - 1e-9 <= min(placed) and max(placed) <= heights[1] + 1e-9
        assert max(placed) - min(placed) >= 0.9 * (heights[1] - heights[0])
    usual = [source().scene(i).shapes[0].y for i in range(200)]
    assert min(usual) < 0.36 and max(usual) > 0.64
    assert source(heights=[0.35, 0.65]).fingerprint == source().fingerprint != source(heights=[0.5, 0.5]).fingerprint
    for wrong in ([0.6, 0.4], [0.2, 0.5], [0.5, 0.8]):
        with pytest.raises(ValueError, match="heights="):
            source(heights=wrong)


def test_summary_and_bounds() -> None:
    shapes = open_source(ShapesConfig(length=1204, two_shapes=0))
    assert shapes.summary.sentence() == ("1,204 pictures, 24 classes, captions (one shape drawn on the fly, split train)")
    assert shapes.class_names == CLASS_NAMES
    for index in (-1, 1204):
        with pytest.raises(IndexError):
            shapes.sample_id(index)
