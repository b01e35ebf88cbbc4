from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from open_ldm.conditioning import Conditioning, ConditioningConfig
from open_ldm.conditioning.semantic import ClassSemantic, NoSemantic, TextSemantic, noise_shape
from open_ldm.controls import AspectRatio, Colour, Crop, Flip, JpegQuality, OriginalSize, Turn
from open_ldm.controls.gate import ConstantGate, CosinePowerGate, PowerCosineGate
from open_ldm.text.padding import PaddingKind
from tests.helpers import (
    CLASSES,
    DENOISERS,
    SMALL_WORDS,
    WORDS,
    inputs_for,
    randn,
    randomise,
    record,
    small_model,
    text_of,
)

WIDTH = 32
ALL_CONTROLS = (OriginalSize(), Crop(), Flip(), AspectRatio(), Colour(), JpegQuality(), Turn())
TIMES = torch.tensor([0.0, 0.3, 0.9])
DROPPED = torch.zeros(3, dtype=torch.bool)


def build(config: ConditioningConfig) -> Conditioning:
    built: Conditioning = randomise(
        Conditioning(config.semantic, config.controls, WIDTH, classes=len(CLASSES), vocabulary=len(WORDS) + 2)
    )
    return built


def text(**choices: Any) -> ConditioningConfig:
    return ConditioningConfig(semantic=TextSemantic(encoder=SMALL_WORDS, **choices))


def test_nothing_said_is_a_zero_modulation() -> None:
    config = ConditioningConfig()
    conditions = build(config)(inputs_for(config, 3), TIMES)
    assert torch.equal(conditions.modulation, torch.zeros(3, WIDTH))
    assert conditions.context is None
    assert conditions.context_mask is None


@pytest.mark.parametrize("name", DENOISERS)
def test_an_untrained_control_changes_nothing(name: str) -> None:
    config = ConditioningConfig(semantic=ClassSemantic(), controls=ALL_CONTROLS)
    model = small_model(DENOISERS[name], config)
    fresh = Conditioning(config.semantic, config.controls, WIDTH, classes=len(CLASSES))
    x, inputs = randn(3, 3, 8, 8), inputs_for(config, 3)
    with torch.no_grad():
        trained = model.predict(x, TIMES, inputs).mean
        model.conditioning = fresh
        with_controls = model.predict(x, TIMES, inputs).mean
        without = model.predict(x, TIMES, inputs_for(config, 3, keep_control=DROPPED)).mean
    assert torch.equal(with_controls, without)
    assert not torch.allclose(with_controls, trained, atol=1e-3)


def with_size(gate: Any) -> ConditioningConfig:
    return ConditioningConfig(semantic=ClassSemantic(), controls=(OriginalSize(gate=gate), Flip()))


@pytest.mark.parametrize("name", DENOISERS)
@pytest.mark.parametrize("gate", [PowerCosineGate(alpha=8), CosinePowerGate(alpha=2)], ids=lambda gate: gate.kind)
def test_at_noise_a_gated_size_changes_exactly_nothing(name: str, gate: Any) -> None:
    improved, baseline = with_size(gate), with_size(ConstantGate())
    models = [small_model(DENOISERS[name], config) for config in (improved, baseline)]
    models[1].load_state_dict(models[0].state_dict())
    x = randn(3, 3, 8, 8)

    def change_by_size(which: int, t: float) -> tuple[bool, float]:
        outputs = []
        for side in (64, 1024):
            inputs = inputs_for(improved, 3)
            controls = {**inputs.controls, "original_size": torch.full((3, 2), float(side))}
            with torch.no_grad():
                changed = inputs_for(improved, 3, controls=controls)
                outputs.append(models[which].predict(x, torch.full((3,), t), changed).mean)
        return torch.equal(*outputs), float((outputs[0] - outputs[1]).abs().max())

    assert change_by_size(0, 1.0) == (True, 0.0)
    assert change_by_size(1, 1.0)[1] > 1e-2
    assert change_by_size(0, 0.0)[1] > 1e-2


def test_controls_add_up_each_with_its_own_gate() -> None:
    config = ConditioningConfig(controls=(OriginalSize(), Crop(), Flip(gate=CosinePowerGate(alpha=2))))
    conditioning, inputs = build(config), inputs_for(config, 3)
    parts = []
    for control in config.controls:
        one = Conditioning(NoSemantic(), (control,), WIDTH)
        one.controls[control.kind].load_state_dict(conditioning.controls[control.kind].state_dict())
        parts.append(one(inputs, TIMES).modulation)
    torch.testing.assert_close(conditioning(inputs, TIMES).modulation, sum(parts))
    assert all(bool(part[0].any()) for part in parts)


def test_dropped_controls_are_zero_for_their_rows_alone() -> None:
    config = ConditioningConfig(controls=ALL_CONTROLS)
    conditioning = build(config)
    keep = torch.tensor([True, False, True])
    found = conditioning(inputs_for(config, 3, keep_control=keep), TIMES).modulation
    whole = conditioning(inputs_for(config, 3), TIMES).modulation
    assert not found[1].any()
    assert torch.equal(found[keep], whole[keep])


@pytest.mark.parametrize("route", ["modulation", "context"])
def test_a_class_is_a_row_of_its_table_and_a_dropped_one_the_null_row(route: Any) -> None:
    config = ConditioningConfig(semantic=ClassSemantic(route=route))
    conditioning = build(config)
    labels = torch.tensor([2, 0, 1])
    keep = torch.tensor([True, False, True])
    conditions = conditioning(inputs_for(config, 3, labels=labels, keep_semantic=keep), TIMES)
    table = conditioning.get_parameter("semantic.table.weight")
    assert table.shape == (len(CLASSES) + 1, WIDTH)
    wanted = table[[2, len(CLASSES), 1]]
    if route == "modulation":
        assert torch.equal(conditions.modulation, wanted)
        assert conditions.context is None
        assert conditioning.context_dim is None
    else:
        assert conditions.context is not None
        assert torch.equal(conditions.context, wanted.unsqueeze(1))
        assert not conditions.modulation.any()
        assert conditioning.context_dim == WIDTH


@pytest.mark.parametrize("padding", ["zero", "mask", "encoder", "replicate", "noisy_replicate"])
def test_a_dropped_caption_is_the_null_token_whatever_it_said(padding: PaddingKind) -> None:
    config = text(padding=padding, route="both")
    conditioning = build(config)
    conditions = conditioning(inputs_for(config, 3, keep_semantic=DROPPED), TIMES)
    assert conditions.context is not None
    null = conditioning.get_parameter("semantic.null_token")
    assert torch.equal(conditions.context, null.expand(3, SMALL_WORDS.length, -1))
    assert conditions.context_mask is None or bool(conditions.context_mask.all())
    assert torch.equal(conditions.modulation[0], conditions.modulation[1])
    kept = conditioning(inputs_for(config, 3), TIMES)
    assert kept.context is not None
    assert not torch.isclose(kept.context, null).all(dim=(1, 2)).any()
    assert not torch.allclose(kept.modulation[0], kept.modulation[1])


def test_an_empty_caption_counts_as_dropped() -> None:
    config = text(padding="mask", route="both")
    conditioning, captions = build(config), text_of(3)
    captions.mask[1] = False
    found = conditioning(inputs_for(config, 3, text=captions), TIMES)
    keep = torch.tensor([True, False, True])
    wanted = conditioning(inputs_for(config, 3, keep_semantic=keep), TIMES)
    assert found.context is not None and wanted.context is not None
    assert torch.equal(found.context, wanted.context)
    assert torch.equal(found.modulation, wanted.modulation)


def test_word_order_matters_and_padding_ids_do_not() -> None:
    config = text(padding="noisy_replicate", route="both")
    conditioning, captions = build(config), text_of(3)
    before = conditioning(inputs_for(config, 3), TIMES)
    captions.tokens[~captions.mask] = 3
    same = conditioning(inputs_for(config, 3, text=captions), TIMES)
    assert before.context is not None and same.context is not None
    assert torch.equal(before.context, same.context)
    assert torch.equal(before.modulation, same.modulation)
    captions.tokens[2, :2] = captions.tokens[2, :2].flip(0)
    other = conditioning(inputs_for(config, 3, text=captions), TIMES)
    assert other.context is not None
    assert not torch.allclose(before.context[2], other.context[2])


@pytest.mark.parametrize("route", ["modulation", "context", "both"])
def test_routes_of_text_fill_the_slots_they_name(route: Any) -> None:
    config = text(route=route)
    conditioning = build(config)
    conditions = conditioning(inputs_for(config, 3), TIMES)
    assert (conditions.context is not None) == (route != "modulation")
    assert bool(conditions.modulation.any()) == (route != "context")
    assert conditioning.context_dim == (None if route == "modulation" else SMALL_WORDS.width)
    assert (noise_shape(config.semantic) is None) == (route == "modulation")


@pytest.mark.parametrize("route", ["modulation", "context", "both"])
@pytest.mark.parametrize("padding", ["mask", "noisy_replicate"])
def test_gradient_reaches_every_parameter(route: Any, padding: PaddingKind) -> None:
    config = text(route=route, padding=padding).model_copy(update={"controls": ALL_CONTROLS})
    conditioning = build(config)
    keep = torch.tensor([True, True, False])
    conditions = conditioning(inputs_for(config, 3, keep_semantic=keep), TIMES)
    total = conditions.modulation.square().sum()
    if conditions.context is not None:
        total = total + conditions.context.square().sum()
    torch.autograd.backward(total)
    for name, parameter in conditioning.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
        assert bool(parameter.grad.any()), name


def test_rows_repeated_and_kept() -> None:
    config = text().model_copy(update={"controls": ALL_CONTROLS})
    inputs = inputs_for(config, 3)
    twice = inputs.repeated(2)
    assert len(twice) == 6
    assert torch.equal(twice.rows(3, 6).controls["crop"], inputs.controls["crop"])
    assert twice.text is not None and inputs.text is not None
    assert torch.equal(twice.rows(4, 5).text.tokens, inputs.text.tokens[1:2])  # type: ignore[union-attr]
    assert not inputs.kept(DROPPED, ~DROPPED).keep_semantic.any()


def test_a_control_is_listed_once() -> None:
    with pytest.raises(ValidationError, match="control flip is listed twice"):
        ConditioningConfig(controls=(Flip(), OriginalSize(), Flip()))


def test_missing_labels_or_captions_are_refused() -> None:
    for config in (ConditioningConfig(semantic=ClassSemantic()), text()):
        with pytest.raises(ValueError, match="none were given"):
            build(config)(inputs_for(config, 2, labels=None, text=None), TIMES[:2])


def test_control_values_follow_the_record() -> None:
    config = ConditioningConfig(controls=ALL_CONTROLS)
    assert set(inputs_for(config, 1).controls) == {control.kind for control in ALL_CONTROLS}
    assert inputs_for(config, 1).controls["original_size"].tolist() == [[64, 96]]
    assert record().original_width_px == 96


def test_what_is_unknown_of_a_picture_counts_as_dropped_for_that_control_alone() -> None:
    config = ConditioningConfig(controls=(OriginalSize(), Colour()))
    module = build(config)
    known = inputs_for(config, 3)
    colour = known.controls["colour"].clone()
    colour[1, 0] = float("nan")
    partly = inputs_for(config, 3, controls={**known.controls, "colour": colour})
    only_size = Conditioning(config.semantic, config.controls[:1], WIDTH)
    only_size.load_state_dict({name: value for name, value in module.state_dict().items() if "colour" not in name})
    with torch.no_grad():
        found, whole = module(partly, TIMES).modulation, module(known, TIMES).modulation
        size = only_size(inputs_for(ConditioningConfig(controls=config.controls[:1]), 3), TIMES).modulation
    assert torch.equal(found[[0, 2]], whole[[0, 2]])
    assert torch.equal(found[1], size[1]) and not torch.equal(whole[1], size[1])
    found = module(partly, TIMES).modulation
    found.sum().backward()  # NaN must not reach a gradient either
    assert all(torch.isfinite(parameter.grad).all() for parameter in module.parameters())
