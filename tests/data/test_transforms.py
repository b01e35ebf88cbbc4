from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from open_ldm.core.config import validate
from open_ldm.core.errors import ConfigError
from open_ldm.data.sample import TransformRecord
from open_ldm.data.transforms import (
    CenterCrop,
    GlobalCrop,
    LocalCrop,
    TransformConfig,
    cut_view,
    plan_view,
    transform,
)

SIZES = [(24, 32), (32, 24), (100, 100), (17, 301), (1, 1), (1000, 20)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("crop", [GlobalCrop(), CenterCrop(), LocalCrop(scale_px=48)])
@pytest.mark.parametrize("view", [32, (16, 40)])
def test_the_box_lies_inside_and_keeps_the_shape_of_things(
    size: tuple[int, int], crop: GlobalCrop | CenterCrop | LocalCrop, view: int | tuple[int, int]
) -> None:
    config = TransformConfig(size_px=view, crop=crop, flip=0.5)
    for position in range(20):
        record = plan_view(size, (3 * size[0], 3 * size[1]), config, 0, position)
        assert 0 <= record.crop_top_px <= record.scaled_height_px - record.height_px
        assert 0 <= record.crop_left_px <= record.scaled_width_px - record.width_px
        assert (record.height_px, record.width_px) == (config.height_px, config.width_px)
        assert (record.original_height_px, record.original_width_px) == (3 * size[0], 3 * size[1])
        vertical, horizontal = record.scaled_height_px / size[0], record.scaled_width_px / size[1]
        assert abs(record.scaled_height_px - horizontal * size[0]) <= 0.5 * (1 + size[0] / size[1])
        if isinstance(crop, LocalCrop):
            assert min(record.scaled_height_px, record.scaled_width_px) == 48
        else:
            assert min(vertical * size[0] - record.height_px, horizontal * size[1] - record.width_px) == 0


def test_every_offset_is_drawn_and_both_flips() -> None:
    config = TransformConfig(size_px=32, crop=LocalCrop(scale_px=34), flip=0.25)
    records = [plan_view((68, 68), (68, 68), config, 1, position) for position in range(1000)]
    places = {(record.crop_top_px, record.crop_left_px) for record in records}
    assert places == {(top, left) for top in range(3) for left in range(3)}
    assert 0.2 < np.mean([record.flip for record in records]) < 0.3
    assert not any(plan_view((68, 68), (68, 68), TransformConfig(size_px=32), 1, position).flip for position in range(100))
    always = TransformConfig(size_px=32, flip=1)
    assert all(plan_view((68, 68), (68, 68), always, 1, position).flip for position in range(100))


def test_views_are_functions_of_seed_and_position(image: Callable[..., Image.Image]) -> None:
    pixels = np.asarray(image(40, 60))
    config = TransformConfig(size_px=16, crop=LocalCrop(scale_px=32), flip=0.5)
    views = [transform(pixels, (40, 60), config, 0, position) for position in range(30)]
    again = [transform(pixels, (40, 60), config, 0, position) for position in reversed(range(30))][::-1]
    other = [transform(pixels, (40, 60), config, 1, position) for position in range(30)]
    assert [view.record for view in views] == [view.record for view in again]
    assert all(torch.equal(view.pixels, second.pixels) for view, second in zip(views, again, strict=True))
    assert [view.record for view in views] != [view.record for view in other]
    assert views[0].pixels.shape == (3, 16, 16)
    assert views[0].pixels.dtype == torch.uint8
    assert views[0].pixels.is_contiguous()


def test_a_view_is_the_resized_picture_cropped_and_mirrored(image: Callable[..., Image.Image]) -> None:
    """Resampling only the box gives what resizing the whole picture and cropping gives, to rounding."""
    picture = image(90, 120)
    config = TransformConfig(size_px=32, crop=LocalCrop(scale_px=60), flip=0.5)
    flips = set()
    for position in range(20):
        record = plan_view((90, 120), (90, 120), config, 3, position)
        resized = np.asarray(picture.resize((record.scaled_width_px, record.scaled_height_px), Image.Resampling.BICUBIC))
        top, left = record.crop_top_px, record.crop_left_px
        expected = resized[top : top + 32, left : left + 32]
        expected = expected[:, ::-1] if record.flip else expected
        flips.add(record.flip)
        view = cut_view(np.asarray(picture), record).permute(1, 2, 0).numpy()
        assert np.abs(view.astype(int) - expected).max() <= 2
    assert flips == {False, True}


def test_reduction_is_antialiased() -> None:
    checkerboard = np.indices((256, 256)).sum(axis=0) % 2 * 255
    pixels = np.repeat(checkerboard[:, :, None], 3, axis=2).astype(np.uint8)
    view = transform(pixels, (256, 256), TransformConfig(size_px=16), 0, 0).pixels
    assert (view.float() - 127.5).abs().max() < 3


def test_an_untouched_picture_stays_untouched(image: Callable[..., Image.Image]) -> None:
    pixels = np.asarray(image(32, 32))
    view = transform(pixels, (32, 32), TransformConfig(size_px=32), 0, 0).pixels
    np.testing.assert_array_equal(view.permute(1, 2, 0).numpy(), pixels)


def test_extreme_shapes_cost_no_memory() -> None:
    ribbon = np.zeros((1, 60_000, 3), dtype=np.uint8)
    view = transform(ribbon, (1, 60_000), TransformConfig(size_px=256, crop=LocalCrop(scale_px=256)), 0, 5)
    assert view.record.scaled_width_px == 15_360_000
    assert view.pixels.shape == (3, 256, 256)


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="smaller than the view of 32x48 px"):
        validate(TransformConfig, {"size_px": [32, 48], "crop": {"kind": "local", "scale_px": 40}}, source="test")
    for bad in (
        {"size_px": 0},
        {"size_px": 32, "flip": 1.5},
        {"size_px": 32, "crop": {"kind": "global", "scale_px": 4}},
    ):
        with pytest.raises(ValidationError):
            TransformConfig.model_validate(bad)


def symmetry(view: np.ndarray, flip: bool, quarter_turns: int) -> np.ndarray:
    """The symmetry of a square picture [C, N, N] by its definition, pixel by pixel: mirrored, then turned clockwise."""
    size = view.shape[1]
    for done in range(flip + quarter_turns):
        moved = np.empty_like(view)
        for row in range(size):
            for column in range(size):
                target = (row, size - 1 - column) if flip and not done else (column, size - 1 - row)
                moved[:, target[0], target[1]] = view[:, row, column]
        view = moved
    return view


def test_turned_views_are_the_8_symmetries_of_the_same_box(image: Callable[..., Image.Image]) -> None:
    pixels = np.asarray(image(40, 60))
    turned = TransformConfig(size_px=16, crop=LocalCrop(scale_px=32), flip=0.5, turn="quarter")
    plain = TransformConfig(size_px=16, crop=LocalCrop(scale_px=32))
    seen = set()
    for position in range(60):
        view, upright = (transform(pixels, (40, 60), config, 0, position) for config in (turned, plain))
        record = view.record
        assert replace(record, flip=False, quarter_turns=0) == upright.record
        wanted = symmetry(upright.pixels.numpy(), record.flip, record.quarter_turns)
        assert np.array_equal(view.pixels.numpy(), wanted)
        assert view.pixels.is_contiguous()
        seen.add((record.flip, record.quarter_turns))
    assert seen == {(flip, turns) for flip in (False, True) for turns in range(4)}


def test_turns_are_drawn_evenly_and_change_nothing_else() -> None:
    def records(**changes: object) -> list[TransformRecord]:
        config = TransformConfig(size_px=16, flip=0.5, **changes)
        return [plan_view((40, 60), (40, 60), config, 3, position) for position in range(4000)]

    plain = records()
    counts = {turn: Counter(record.quarter_turns for record in records(turn=turn)) for turn in ("none", "half", "quarter")}
    assert counts["none"].keys() == {0} and counts["half"].keys() == {0, 2} and counts["quarter"].keys() == {0, 1, 2, 3}
    for turn, each in (("half", 2000), ("quarter", 1000)):
        assert all(abs(count - each) < 4 * each**0.5 for count in counts[turn].values())
        assert [replace(record, quarter_turns=0) for record in records(turn=turn)] == plain
    together = Counter((record.flip, record.quarter_turns) for record in records(turn="quarter"))
    assert len(together) == 8 and all(abs(count - 500) < 4 * 500**0.5 for count in together.values())


def test_views_that_are_not_square_turn_by_half_only(image: Callable[..., Image.Image]) -> None:
    with pytest.raises(ConfigError, match="turn=quarter of views of 16x24 px; needed: turn=half, or square views"):
        validate(TransformConfig, {"size_px": [16, 24], "turn": "quarter"}, source="transform")
    config = TransformConfig(size_px=(16, 24), turn="half")
    pixels = np.asarray(image(40, 60))
    for position in range(8):
        view = transform(pixels, (40, 60), config, 0, position)
        upright = cut_view(pixels, replace(view.record, quarter_turns=0))
        assert torch.equal(view.pixels, upright.flip(1, 2) if view.record.quarter_turns else upright)


def test_the_setting_is_written_only_where_it_is_set() -> None:
    assert "turn" not in TransformConfig(size_px=8).model_dump(mode="json")
    assert "turn" not in TransformConfig(size_px=8).model_dump_json()
    turned = TransformConfig(size_px=8, turn="half")
    assert turned.model_dump(mode="json")["turn"] == "half"
    assert validate(TransformConfig, turned.model_dump(mode="json"), source="transform") == turned
