"""Captions from frozen encoders, padding part by part, and what stands where a caption is dropped."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from open_ldm.conditioning import Conditioning, ConditioningConfig, ConditionInputs
from open_ldm.conditioning.semantic import TextSemantic, noise_shape
from open_ldm.text import TextTokens
from open_ldm.text.padding import PaddingKind, pad
from tests.helpers import SMALL_WORDS, WORDS, inputs_for, randn, randomise

WIDTH, LENGTHS, FEATURES = 32, (5, 4), 16
TIMES = torch.tensor([0.0, 0.3, 0.9])
PADDINGS: list[PaddingKind] = ["zero", "mask", "encoder", "replicate", "noisy_replicate"]


def frozen(pooled: bool = False) -> dict[str, Any]:
    """Two encoders, one after the other; the second is narrower."""
    first: dict[str, Any] = {"path": "a", "length": LENGTHS[0], "width": FEATURES}
    if pooled:
        first |= {"pooled": "projected", "pooled_width": 6}
    return {"kind": "huggingface", "models": [[first], [{"path": "b", "length": LENGTHS[1], "width": 10}]]}


def semantic(**choices: Any) -> TextSemantic:
    pooled = choices.get("route", "context") != "context"
    return TextSemantic.model_validate({"encoder": frozen(pooled), **choices})


def build(config: TextSemantic) -> Conditioning:
    built: Conditioning = randomise(Conditioning(config, (), WIDTH, vocabulary=len(WORDS) + 2))
    return built


def features(counts: list[tuple[int, int]] | None = None) -> TextTokens:
    """Captions of so many tokens in either part; the narrower part ends in zeros."""
    tokens = randn(3, sum(LENGTHS), FEATURES, seed=3)
    tokens[:, LENGTHS[0] :, 10:] = 0
    masks = [
        torch.cat([torch.arange(length) < count for length, count in zip(LENGTHS, both, strict=True)])
        for both in counts or [(2, 1), (5, 4), (1, 3)]
    ]
    return TextTokens(tokens, torch.stack(masks), randn(3, 6, seed=4))


def inputs(
    config: TextSemantic, text: TextTokens | None = None, keep: tuple[bool, bool, bool] = (True,) * 3
) -> ConditionInputs:
    shape = noise_shape(config)
    return ConditionInputs(
        keep_semantic=torch.tensor(keep),
        keep_control=torch.ones(3, dtype=torch.bool),
        text=text or features(),
        padding_noise=None if shape is None else randn(3, *shape, seed=5),
    )


@pytest.mark.parametrize("padding", PADDINGS)
def test_every_part_is_padded_from_its_own_tokens(padding: PaddingKind) -> None:
    config, text = semantic(padding=padding), features()
    given = inputs(config, text)
    conditions = build(config)(given, TIMES)
    parts = []
    for part in (slice(0, 5), slice(5, 9)):
        noise = None if given.padding_noise is None else given.padding_noise[:, part]
        parts.append(pad(text.tokens[:, part], text.mask[:, part], padding, noise))
    assert conditions.context is not None
    assert torch.equal(conditions.context, torch.cat([part.tokens for part in parts], dim=1))
    assert torch.equal(conditions.context[text.mask], text.tokens[text.mask])
    if padding == "mask":
        assert torch.equal(conditions.context_mask, text.mask)
    else:
        assert conditions.context_mask is None
    if padding == "replicate":
        assert torch.equal(conditions.context[2, 1:5], text.tokens[2, :1].expand(4, -1))
        assert torch.equal(conditions.context[2, 8], text.tokens[2, 5])


def test_zeros_of_a_narrower_part_stay_zeros_under_noise() -> None:
    config = semantic(padding="noisy_replicate")
    context = build(config)(inputs(config), TIMES).context
    assert context is not None
    assert context[:, 5:, 10:].abs().max() < 1e-6
    assert not torch.equal(context[2, 1], context[2, 0])


def test_the_floor_of_a_single_token_reaches_the_context_and_spares_the_zeros() -> None:
    exact, config = semantic(padding="noisy_replicate"), semantic(padding="noisy_replicate", padding_floor=0.5)
    text = features()
    before, after = (build(each)(inputs(each, text), TIMES).context for each in (exact, config))
    assert before is not None and after is not None
    single = torch.zeros(3, 9, dtype=torch.bool)
    single[0, 6:], single[2, 1:5] = True, True  # copies of the parts that have one token
    assert torch.equal(before[~single], after[~single])
    assert bool((before != after).any(dim=2)[single].all())
    assert not after[0, 6:, 10:].any()
    noise = inputs(config).padding_noise
    assert noise is not None
    token = text.tokens[0, 5, :10]
    wanted = token + 0.02 * 3**0.5 * 0.5 * token.square().mean().sqrt() * noise[0, 6, :10]
    torch.testing.assert_close(after[0, 6, :10], wanted)


def test_features_have_no_table_of_their_own() -> None:
    assert [name for name, _ in build(semantic()).named_parameters()] == ["semantic.null_token"]


@pytest.mark.parametrize("null", ["token", "table", "zeros"])
@pytest.mark.parametrize("words", [False, True])
def test_what_stands_where_a_caption_is_dropped_or_empty(null: str, words: bool) -> None:
    config = TextSemantic.model_validate(
        {"encoder": SMALL_WORDS if words else frozen(True), "route": "both", "null_kind": null}
    )
    conditioning = build(config)
    if words:
        given = inputs_for(ConditioningConfig(semantic=config), 3)
        assert given.text is not None
        given.text.mask[2] = False
        given = given.kept(torch.tensor([True, False, True]), given.keep_control)
    else:
        given = inputs(config, features([(2, 1), (5, 4), (0, 0)]), keep=(True, False, True))
    conditions = conditioning(given, TIMES)
    names = {name for name, _ in conditioning.named_parameters() if "null" in name}
    length, width = config.encoder.length, config.encoder.width
    match null:
        case "token":
            wanted = conditioning.get_parameter("semantic.null_token").expand(length, width)
            assert names == {"semantic.null_token", "semantic.null_pooled"}
        case "table":
            wanted = conditioning.get_parameter("semantic.null_tokens")
            assert wanted.shape == (length, width) and not torch.equal(wanted[0], wanted[1])
            assert names == {"semantic.null_tokens", "semantic.null_pooled"}
        case _:
            wanted = torch.zeros(length, width)
            assert not names
    assert conditions.context is not None
    assert torch.equal(conditions.context[1], wanted) and torch.equal(conditions.context[2], wanted)
    assert not torch.equal(conditions.context[0], wanted)
    vector = torch.zeros(config.encoder.pooled_width) if null == "zeros" else conditioning.get_parameter("semantic.null_pooled")
    torch.testing.assert_close(conditions.modulation[1], conditioning.get_submodule("semantic.pooled")(vector))
    torch.testing.assert_close(conditions.modulation[2], conditions.modulation[1])


def test_pooled_vectors_go_through_two_layers_with_silu_between() -> None:
    config = semantic(route="modulation")
    conditioning, text = build(config), features()
    conditions = conditioning(inputs(config, text), TIMES)
    first, second = (conditioning.get_submodule(f"semantic.pooled.{place}") for place in (0, 2))
    assert text.pooled is not None
    torch.testing.assert_close(conditions.modulation, second(torch.nn.functional.silu(first(text.pooled))))
    assert conditions.context is None and conditioning.context_dim is None


def test_a_dropped_caption_may_keep_the_mask_of_its_words() -> None:
    text = features([(2, 1), (5, 4), (0, 0)])
    keep = (False, True, True)
    gone, kept = semantic(padding="mask"), semantic(padding="mask", null_kind="table", null_keeps_mask=True)
    assert torch.equal(build(gone)(inputs(gone, text, keep), TIMES).context_mask[0], torch.ones(9, dtype=torch.bool))
    mask = build(kept)(inputs(kept, text, keep), TIMES).context_mask
    assert torch.equal(mask[:2], text.mask[:2])
    assert mask[2].tolist() == [True, *[False] * 4, True, *[False] * 3]  # nothing to attend to would be no number


@pytest.mark.parametrize("null", ["token", "table", "zeros"])
def test_gradient_reaches_every_parameter_of_a_null(null: str) -> None:
    config = semantic(route="both", null_kind=null)
    conditioning = build(config)
    conditions = conditioning(inputs(config, keep=(True, False, True)), TIMES)
    assert conditions.context is not None
    torch.autograd.backward(conditions.modulation.square().sum() + conditions.context.square().sum() * (null != "zeros"))
    for name, parameter in conditioning.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.any()), name


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"encoder": SMALL_WORDS, "null_kind": "table", "route": "modulation"}, "null_kind: table has no effect"),
        ({"encoder": SMALL_WORDS, "null_keeps_mask": True, "padding": "zero"}, "null_keeps_mask has no effect"),
        ({"encoder": frozen(True), "route": "context"}, "pooled vectors have no effect"),
        ({"encoder": frozen(False), "route": "both"}, "needs a pooled vector"),
    ],
)
def test_settings_without_effect_are_refused(choices: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TextSemantic.model_validate(choices)


def test_a_model_of_pooled_vectors_refuses_captions_without_them() -> None:
    config = semantic(route="modulation")
    with pytest.raises(ValueError, match="none were given"):
        build(config)(inputs(config, TextTokens(features().tokens, features().mask)), TIMES)
