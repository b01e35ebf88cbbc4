"""Entangled shapes: size, crop and flip depend on the first shape as often as the strength says, and else on nothing."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from open_ldm.core.config import validate
from open_ldm.core.errors import ConfigError
from open_ldm.data.entangle import RangePart
from open_ldm.data.holdout import HoldoutConfig, select_part
from open_ldm.data.shape_words import COLOURS, KINDS, PLACES, ShapeWords, shapes_in, write_caption
from open_ldm.data.transforms import GlobalCrop, LocalCrop, TransformConfig, plan_view
from open_ldm.encoded.cache.reader import CacheReader
from open_ldm.sources.loader import DataConfig, read_batches
from open_ldm.sources.shape_painting import draw
from open_ldm.sources.shapes import ShapesConfig, ShapesSource
from tests.encoded.cache.small_data import CONTROLS, Setting, ranges

PAINTED = 800
TWO = {"colours": ["red", "blue"], "short_side_px": [8, 32], "two_shapes": 0, "untold": ["colour"]}


def source(**settings: Any) -> ShapesSource:
    return validate(ShapesConfig, {"length": PAINTED, **settings}, source="test").open()


def data(source: dict[str, Any], **transform: Any) -> DataConfig:
    content = {"source": {"kind": "shapes", **source}, "transform": {"size_px": 16, **transform}}
    return validate(DataConfig, content, source="test")


def assert_share(hits: list[bool], expected: float) -> None:
    """Within four standard errors, or exact where nothing is random."""
    error = 4 * (expected * (1 - expected) / len(hits)) ** 0.5
    assert abs(sum(hits) / len(hits) - expected) <= error, (sum(hits) / len(hits), expected, len(hits))


@pytest.mark.parametrize("strength", [0.0, 0.95, 1.0])
def test_the_colour_decides_the_size_as_often_as_the_strength_says(strength: float) -> None:
    """Of pictures below the middle of the log range, (1 + strength) / 2 are of the first of two colours."""
    shapes = source(**TWO, entangle={"size": "colour", "strength": strength})
    scenes = [shapes.scene(index) for index in range(PAINTED)]
    sides = [min(scene.height_px, scene.width_px) for scene in scenes]
    colours = [scene.shapes[0].colour for scene in scenes]
    assert min(sides) >= 8 and max(sides) <= 32 and set(colours) == {"red", "blue"}
    # 16 px belongs to both parts, since sizes are rounded.
    assert_share([colour == "red" for side, colour in zip(sides, colours, strict=True) if side < 16], (1 + strength) / 2)
    assert_share([colour == "blue" for side, colour in zip(sides, colours, strict=True) if side > 16], (1 + strength) / 2)
    for index in (0, 5):
        assert shapes.size_of(index) == shapes[index].pixels.shape[:2] == (scenes[index].height_px, scenes[index].width_px)


@pytest.mark.parametrize(("attribute", "options"), [("colour", COLOURS), ("kind", KINDS), ("place", PLACES)])
def test_every_option_has_its_own_part_of_the_range(attribute: str, options: tuple[str, ...]) -> None:
    shapes = source(entangle={"size": attribute, "strength": 1}, short_side_px=[100, 1600])
    for index in range(200):
        scene = shapes.scene(index)
        part = options.index(getattr(scene.shapes[0], attribute))
        low, high = (100 * 16 ** ((part + more) / len(options)) for more in (0, 1))
        assert low - 0.5 <= min(scene.height_px, scene.width_px) <= high + 0.5


def test_strength_0_is_the_data_of_today() -> None:
    """Fingerprints and pixels of before there was anything to entangle; the size alone moves with the strength."""
    plain, none = source(length=60), source(length=60, entangle={"size": "colour", "crop": "place", "strength": 0})
    assert plain.fingerprint == none.fingerprint == "68c876f4242b47b2ccc2e74a440b3f26"
    assert plain.hashes == none.hashes
    assert plain.config.model_dump_json() == '{"kind":"shapes","length":60,"seed":0,"two_shapes":0.5,"split":"train"}'
    given = source(length=60, short_side_px=[20, 160], colours=list(COLOURS), untold=[]).fingerprint
    assert given == plain.fingerprint
    for index in range(20):
        one, other = plain[index], none[index]
        np.testing.assert_array_equal(one.pixels, other.pixels)
        assert (one.captions, one.label, one.attributes, one.preference) == (
            other.captions,
            other.label,
            other.attributes,
            other.preference,
        )
    half = source(length=60, entangle={"size": "colour", "strength": 0.5})
    assert half.summary.layout == f"{plain.summary.layout}; size by colour in 50 %" and none.summary == plain.summary
    assert half.fingerprint != plain.fingerprint
    words = [[vars(ShapeWords.telling(shape, ())) for shape in half.scene(i).shapes] for i in range(60)]
    assert words == [[vars(ShapeWords.telling(shape, ())) for shape in plain.scene(i).shapes] for i in range(60)]
    sizes = [half.size_of(index) == plain.size_of(index) for index in range(60)]
    assert 10 < sum(sizes) < 50


def test_settings_are_written_where_they_were_given() -> None:
    config = source(**TWO, entangle={"size": "colour", "strength": 0}).config
    written = config.model_dump(mode="json")
    assert written["untold"] == ["colour"] and written["entangle"]["strength"] == 0
    assert ShapesConfig.model_validate(written) == config


@pytest.mark.parametrize(
    "untold", [(), *itertools.chain(*(itertools.combinations(("size", "colour", "kind", "place"), n) for n in (1, 2, 3, 4)))]
)
def test_captions_leave_out_what_is_untold_and_are_read_back(untold: tuple[str, ...]) -> None:
    shapes = source(untold=list(untold))
    listed = shapes.captions()
    assert len(set(listed)) == len(listed)
    for index in range(40):
        sample = shapes[index]
        (caption,) = sample.captions
        assert caption in listed and shapes.captions_of(index) == sample.captions
        drawn = sample.attributes["shapes"]
        read = shapes_in(caption)
        assert write_caption(read) == caption
        assert list(read) == [shape.telling(untold) for shape in drawn]
        names = [getattr(drawn[0], name) for name in ("colour", "kind") if name not in untold]
        label = sample.label
        assert (label is None and not names) or (label is not None and shapes.class_names[label] == " ".join(names))
        assert label == shapes.label_of(index)


def test_a_second_caption_tells_everything() -> None:
    shapes = source(untold=["colour"], told_too=True)
    words = set(shapes.captions())
    for index in range(40):
        gappy, whole = shapes[index].captions
        drawn = shapes[index].attributes["shapes"]
        assert list(shapes_in(whole)) == [shape.telling(()) for shape in drawn]
        assert list(shapes_in(gappy)) == [shape.telling(("colour",)) for shape in drawn]
        assert {gappy, whole} <= words and shapes.captions_of(index) == (gappy, whole)
    with pytest.raises(ConfigError, match="untold, such as"):
        source(told_too=True, untold=[])


def test_without_the_colour_a_class_is_a_kind() -> None:
    assert source(untold=["colour"]).class_names == KINDS
    assert source(untold=["kind"]).class_names == COLOURS
    assert source(untold=["kind", "colour"]).class_names == ()
    assert source(colours=["blue", "red"], two_shapes=0).class_names[:2] == ("blue circle", "blue square")
    assert source(**TWO)[0].captions[0].split()[1] in ("small", "large")


def test_pictures_of_8_px_are_painted_as_large_ones_made_small() -> None:
    """Against the same scene 32 times as large, averaged over boxes. A supersampling of 4 errs by 48 of 255 on average."""
    shapes = source(short_side_px=[8, 10], two_shapes=0)
    worst = []
    for index in range(40):
        scene = shapes.scene(index)
        large = draw(replace(scene, height_px=32 * scene.height_px, width_px=32 * scene.width_px)).astype(float)
        boxes = large.reshape(scene.height_px, 32, scene.width_px, 32, 3).mean(axis=(1, 3))
        worst.append(np.abs(boxes - shapes[index].pixels).max())
    assert np.mean(worst) < 8


@pytest.mark.parametrize("strength", [0.0, 0.95, 1.0])
def test_views_follow_the_place_as_often_as_the_strength_says(strength: float) -> None:
    """In batches as training reads them: the flip, and crop offsets in the half of their range that the place stands for."""
    entangle = {"crop": "place", "flip": "place", "strength": strength}
    config = data({"length": PAINTED, "entangle": entangle}, flip=0.5, crop={"kind": "local", "scale_px": 35})
    shapes = config.source.open()
    assert isinstance(shapes, ShapesSource)
    (batch,) = read_batches(shapes, config.transform, seed=1, position_ranges=[range(PAINTED)], workers=0)
    right = [shapes.scene(index).shapes[0].place == "right" for index in batch.indices]
    records = list(zip(batch.records, right, strict=True))
    assert_share([record.flip == is_right for record, is_right in records], (1 + strength) / 2)
    spare = [(record.scaled_width_px - record.width_px, record.scaled_height_px - record.height_px) for record in batch.records]
    # 20 offsets along a side of 35 px, or more along the other: an odd number of them has a middle one.
    for offset, side in (("crop_left_px", 0), ("crop_top_px", 1)):
        inside = []
        for (record, is_right), room in zip(records, spare, strict=True):
            first, last = RangePart(int(is_right), 2).steps(room[side])
            inside.append(first <= getattr(record, offset) <= last)
        assert_share(inside, (1 + strength) / 2)


def test_a_preference_moves_no_other_draw() -> None:
    """A view that does not follow is the view of today, and sizes stay as they were."""
    config = TransformConfig(size_px=16, crop=GlobalCrop(), flip=0.5)
    plain, shapes = source(), source(entangle={"crop": "place", "flip": "place", "strength": 0.5})
    same = []
    for index in range(200):
        preference = shapes[index].preference
        assert preference is not None and plain[index].preference is None
        views = [plan_view((30, 40), (30, 40), config, 0, index, each) for each in (None, preference)]
        same.append(views[0] == views[1])
        no_flip = plan_view((30, 40), (30, 40), TransformConfig(size_px=16, flip=1), 0, index, preference)
        assert no_flip.flip
    assert 40 < sum(same) < 160


def test_a_part_of_whole_numbers_is_never_empty() -> None:
    for last, count in itertools.product((0, 1, 2, 5, 6), (1, 2, 3)):
        parts = [RangePart(index, count).steps(last) for index in range(count)]
        assert all(0 <= first <= final <= last for first, final in parts)
        if last + 1 >= count:
            numbers = [number for first, final in parts for number in range(first, final + 1)]
            assert numbers == list(range(last + 1))


@pytest.mark.parametrize("views", [1, 3])
def test_a_cache_holds_the_views_of_live_training(views: int, tmp_path: Path) -> None:
    """Of a part of the data, as a run with a holdout reads them: pixels, records and controls are equal."""
    entangle = {"size": "kind", "crop": "place", "flip": "place", "strength": 0.9}
    shapes = source(length=40, short_side_px=[12, 24], entangle=entangle)
    part = select_part(shapes, HoldoutConfig(share=0.2), "train")
    transform = TransformConfig(size_px=8, crop=LocalCrop(scale_px=12), flip=0.5)
    setting = Setting(source=part, encoder=None, transform=transform, views=views)
    reader = CacheReader(setting.filled(tmp_path).open(), 3, CONTROLS)
    agreeing = []
    for batch in reader.batches(ranges(0, 16, 9), 0):
        (live,) = read_batches(part, transform, seed=3, position_ranges=[batch.positions], workers=0, views=views)
        assert torch.equal(batch.posterior.mean, live.pixels.float() / 127.5 - 1)
        for control in CONTROLS:
            assert torch.equal(batch.controls[control.kind], control.numbers_of(live.records))
        for index, record in zip(live.indices, live.records, strict=True):
            agreeing.append(record.flip == (part[index].attributes["shapes"][0].place == "right"))
    assert sum(agreeing) / len(agreeing) > 0.8


@pytest.mark.parametrize(
    ("settings", "transform", "said"),
    [
        ({"entangle": {"strength": 0.9}}, {}, "size, crop or flip"),
        ({"entangle": {"size": "colour"}}, {}, "strength"),
        ({"entangle": {"size": "colour", "strength": 1.5}}, {}, "strength"),
        ({"entangle": {"size": "crop", "strength": 1}}, {}, "'colour', 'kind' or 'place'"),
        ({"entangle": {"sise": "colour", "strength": 1}}, {}, "did you mean 'size'"),
        ({"entangle": {"size": "colour", "strength": 1}, "colours": ["red"], "two_shapes": 0}, {}, "only one colour occurs"),
        ({"entangle": {"crop": "place", "strength": 1}}, {"crop": {"kind": "center"}}, "has no effect with crop.kind=center"),
        ({"entangle": {"flip": "place", "strength": 1}}, {}, "transform.flip between 0 and 1"),
        ({"entangle": {"flip": "place", "strength": 1}}, {"flip": 1}, "transform.flip between 0 and 1"),
        ({"short_side_px": [32, 8]}, {}, "short_side_px=[32, 8]"),
        ({"short_side_px": [2, 8]}, {}, "4 <= low"),
        ({"colours": ["red", "red"]}, {}, "each of them once"),
        ({"colours": ["pink"]}, {}, "colours"),
        ({"colours": ["red"]}, {}, "two colours"),
        ({"colours": ["purple"], "split": "held_out", "two_shapes": 0}, {}, "no combination is left"),
        ({"untold": ["shape"]}, {}, "untold"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(settings: dict[str, Any], transform: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        data(settings, **transform)
    assert said in caught.value.one_line() and "\n" not in caught.value.one_line()
    assert len(caught.value.one_line()) <= 300


def test_strength_0_may_stand_beside_any_transform() -> None:
    assert data({"entangle": {"flip": "place", "crop": "place", "strength": 0}}, crop={"kind": "center"}).transform.flip == 0
