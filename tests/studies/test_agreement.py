"""Which captions are asked for, and what is read off the pictures."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from open_ldm.data.shape_wordings import captions_of_length, told_by
from open_ldm.sources.loader import DataConfig
from open_ldm.sources.shapes import ShapesConfig
from open_ldm.studies.agreement import agreement_with, captions_of_lengths, captions_to_check

DRAWINGS: dict[str, Any] = {"kind": "shapes", "length": 12, "two_shapes": 0, "short_side_px": [32, 32], "longest_aspect": 1}
DATA = DataConfig.model_validate({"source": DRAWINGS, "transform": {"size_px": 32}})
SHAPES = ShapesConfig.model_validate(DRAWINGS).open()


def pictures() -> Tensor:
    return torch.stack([torch.from_numpy(SHAPES[i].pixels).permute(2, 0, 1) for i in range(len(SHAPES))])


def test_captions_of_a_group_have_its_lengths_equally_often_and_say_both_sides() -> None:
    captions = captions_of_lengths(DATA, (3, 9, 20), 60)
    assert Counter(len(caption.split()) for caption in captions) == {3: 20, 9: 20, 20: 20}
    places = Counter(told_by(caption).place for caption in captions)
    assert min(places["left"], places["right"]) >= 18
    assert captions == captions_of_lengths(DATA, (3, 9, 20), 60)
    assert len(captions_of_lengths(DATA, (1,), 40)) == 40  # there are fewer of one word
    assert all(len(caption.split()) == 7 for caption in captions_to_check(DATA, 8))


@pytest.mark.parametrize("words", [1, 2, 6])
def test_of_a_group_only_what_a_caption_tells_is_compared(words: int) -> None:
    captions = [captions_of_length(SHAPES.words_of(i)[0], words)[-1] for i in range(len(SHAPES))]
    right = agreement_with(captions, pictures(), "few")
    told = {name for name in ("colour", "kind", "place") if getattr(told_by(captions[0]), name)}
    assert set(right) == {"agreement@few", *(f"agreement_{name}@few" for name in told)}
    assert {value.value for value in right.values()} == {1.0}
    wrong = agreement_with(captions, pictures().flip(-1), "few")
    assert wrong["agreement_place@few"].value == wrong["agreement@few"].value == 0
    assert all(wrong[f"agreement_{name}@few"].value == 1 for name in told - {"place"})


def test_the_usual_sentence_is_read_without_a_group() -> None:
    captions = [caption for i in range(len(SHAPES)) for caption in SHAPES.captions_of(i)]
    found = agreement_with(captions, pictures())
    assert {name: value.value for name, value in found.items()} == dict.fromkeys(
        ("agreement", "agreement_colour", "agreement_kind", "agreement_place"), 1.0
    )


def test_a_shape_too_many_is_no_agreement() -> None:
    both = torch.minimum(pictures(), pictures().flip(-1))
    captions = [captions_of_length(SHAPES.words_of(i)[0], 3)[0] for i in range(len(SHAPES))]
    assert agreement_with(captions, both, "few")["agreement@few"].value < 0.5
