from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from open_ldm.conditioning.control import FEATURES, ControlEmbedding
from open_ldm.controls import AspectRatio, Colour, Control, ControlConfig, Crop, Flip, JpegQuality, OriginalSize, Turn
from open_ldm.controls.gate import ConstantGate, CosinePowerGate, PowerCosineGate
from open_ldm.core.errors import ConfigError
from open_ldm.core.sinusoid import sinusoidal_features
from tests.helpers import VIEW, randomise, record

CONTROLS: list[Control] = [OriginalSize(), Crop(), Flip(), AspectRatio(), Colour(), JpegQuality(), Turn()]
RATIO = AspectRatio(measure="height_over_width")


def test_values_say_how_the_view_was_made() -> None:
    made = record(original_height_px=300, original_width_px=600, crop_top_px=2, crop_left_px=4, flip=True)
    assert OriginalSize().of(made) == (300, 600)
    assert Crop().of(made) == (250, 500)
    assert Flip().of(made) == (1000,)
    assert Flip().of(record()) == (0,)
    assert AspectRatio().of(made) == (100,)
    assert AspectRatio().of(record(original_height_px=90, original_width_px=45)) == (-100,)
    assert JpegQuality().of(record(jpeg_quality=75.0)) == (750,)
    assert [Turn().of(record(quarter_turns=turns)) for turns in range(4)] == [(0, 0), (1000, 0), (0, 1000), (1000, 1000)]
    assert Colour().of(record(saturation=12.5, brightness=40.0)) == (125, 400)
    assert RATIO.of(made) == (0.5,)
    assert RATIO.of(record(original_height_px=90, original_width_px=45)) == (2,)


def test_crop_is_relative_to_its_own_axis() -> None:
    assert Crop().of(record(height_px=4, width_px=16, crop_top_px=1, crop_left_px=1)) == (250, 62.5)


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.kind)
def test_values_of_a_batch_have_one_row_each(control: Control) -> None:
    measured = {"saturation": 12.5, "brightness": 40.0, "jpeg_quality": 75.0}
    records = [record(), record(flip=True, original_height_px=10, crop_top_px=3), record(original_width_px=7)]
    records = [replace(made, **measured) for made in records]
    values = control.numbers_of(records)
    assert values.shape == (3, control.numbers)
    assert values.dtype == torch.float32
    for row, made in zip(values, records, strict=True):
        assert row.tolist() == pytest.approx(control.of(made), rel=1e-6)


@pytest.mark.parametrize(
    ("control", "text", "wanted"),
    [
        (OriginalSize(), "256x128", (256, 128)),
        (OriginalSize(), "256X128", (256, 128)),
        (Crop(), "0,0", (0, 0)),
        (Crop(), "2,4", (250, 500)),
        (Flip(), "0", (0,)),
        (Flip(), "1", (1000,)),
        (AspectRatio(), "2:1", (100,)),
        (AspectRatio(), "4:3", (100 * math.log2(4 / 3),)),
        (RATIO, "4:3", (0.75,)),
        (Colour(), "20,45.5", (200, 455)),
        (Colour(), "0,100", (0, 1000)),
        (JpegQuality(), "90", (900,)),
        (JpegQuality(), "1", (10,)),
        (Turn(), "0", (0, 0)),
        (Turn(), "90", (1000, 0)),
        (Turn(), "180", (0, 1000)),
        (Turn(), "270", (1000, 1000)),
    ],
)
def test_a_typed_value_means_what_a_record_means(control: Control, text: str, wanted: tuple[float, ...]) -> None:
    assert control.read(text, VIEW) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("control", "text", "said"),
    [
        (OriginalSize(), "999999x1", "needed: at most 62831 pixels a side"),
        (OriginalSize(), "1x62832", "needed: at most 62831 pixels a side"),
        (Crop(), "1e6,0", "needed: at most 62 times"),
    ],
)
def test_a_value_that_the_embedding_cannot_tell_from_others_is_refused(control: Control, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        control.read(text, VIEW)


def test_sizes_of_the_data_may_be_asked_for_however_large_they_are() -> None:
    assert OriginalSize().read("62831x8", VIEW) == (62831.0, 8.0)
    slides = replace(VIEW, typical_original_px=40_000)
    assert OriginalSize().read("90000x110000", slides) == (90_000.0, 110_000.0)


@pytest.mark.parametrize(
    ("control", "text"),
    [
        (OriginalSize(), "256"),
        (OriginalSize(), "0x64"),
        (OriginalSize(), "-1x64"),
        (OriginalSize(), "nanx64"),
        (OriginalSize(), "infx64"),
        (OriginalSize(), "1x2x3"),
        (OriginalSize(), ""),
        (Crop(), "-1,0"),
        (Crop(), "1"),
        (Crop(), "a,b"),
        (Flip(), "2"),
        (Flip(), "yes"),
        (Flip(), ""),
        (AspectRatio(), "4/3"),
        (AspectRatio(), "0:1"),
        (Colour(), "20"),
        (Colour(), "20,101"),
        (Colour(), "-1,50"),
        (JpegQuality(), "0"),
        (JpegQuality(), "101"),
        (JpegQuality(), "high"),
        (Turn(), "45"),
        (Turn(), "-90"),
        (Turn(), "upright"),
    ],
)
def test_a_misread_value_is_one_line_with_the_form(control: Control, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        control.read(text, VIEW)
    message = str(caught.value)
    assert "\n" not in message
    assert f"{control.option}={text!r}" in message
    assert f"needed: {control.option}={control.form}" in message


def test_defaults() -> None:
    assert OriginalSize().default(VIEW) == (64, 64)
    assert Crop().default(VIEW) == (0, 0)
    assert Flip().default(VIEW) == (0,)
    assert AspectRatio().default(VIEW) == (0,)
    assert RATIO.default(replace(VIEW, height_px=12)) == (1.5,)
    assert Turn().default(VIEW) == (0, 0)
    assert JpegQuality().default(VIEW) == (1000,)
    assert Colour().default(VIEW) == (200, 450)
    assert Colour().default(replace(VIEW, typical_saturation=7.5, typical_brightness=80.0)) == (75, 800)


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.kind)
def test_default_has_as_many_numbers_as_announced(control: Control) -> None:
    assert len(control.default(VIEW)) == control.numbers


def test_low_level_control_enters_late_and_high_level_ones_at_once() -> None:
    low_level = [control for control in CONTROLS if control.gate == PowerCosineGate(alpha=8)]
    assert [control.kind for control in low_level] == ["original_size", "colour", "jpeg_quality"]
    assert {control.gate for control in CONTROLS if control not in low_level} == {ConstantGate()}


def test_kind_and_option_are_unique_and_the_union_lists_all() -> None:
    adapter = TypeAdapter(ControlConfig)
    for control in CONTROLS:
        assert adapter.validate_python({"kind": control.kind}) == control
    assert len({control.option for control in CONTROLS}) == len(CONTROLS)
    with pytest.raises(ValidationError):
        adapter.validate_python({"kind": "weather"})


@pytest.mark.parametrize("control", [Flip(), Turn()], ids=lambda control: control.kind)
def test_states_of_a_view_are_far_apart_in_the_features_of_the_embedding(control: Control) -> None:
    """0 and 1 are 2.7 apart in them, these 14.4; sizes of 64 and 128 px 16.3."""
    states = {control.of(record(flip=flip, quarter_turns=turns)) for flip in (False, True) for turns in range(4)}
    features = sinusoidal_features(torch.tensor(sorted(states)), FEATURES).flatten(1)
    distances = torch.pdist(features)
    assert float(distances.min()) > 14


def test_a_model_of_pictures_that_are_not_square_is_asked_for_half_turns_only() -> None:
    wide = replace(VIEW, width_px=16)
    assert Turn().read("180", wide) == (0, 1000)
    with pytest.raises(ConfigError, match="turn=90 of pictures of 8x16 px; needed: turn=0 or 180, since they are not square"):
        Turn().read("90", wide)


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.kind)
def test_every_control_may_have_any_gate(control: Control) -> None:
    for gate in (ConstantGate(), PowerCosineGate(alpha=2, clock="time"), CosinePowerGate()):
        content = {"kind": control.kind, "gate": gate.model_dump()}
        read = TypeAdapter(ControlConfig).validate_python(content)
        embedding = randomise(ControlEmbedding(read, 8))
        values, kept = torch.tensor([control.default(VIEW)] * 2), torch.ones(2, dtype=torch.bool)
        noise, data = embedding(values, kept, torch.tensor([1.0, 0.0]))
        assert bool(noise.any()) == isinstance(gate, ConstantGate)
        assert bool(data.any())
