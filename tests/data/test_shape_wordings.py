"""Captions of 1 to 20 words, written and read back."""

from __future__ import annotations

import pytest

from open_ldm.core.errors import ConfigError
from open_ldm.data.shape_wordings import LONGEST, captions_of_length, told_by
from open_ldm.data.shape_words import ShapeWords
from open_ldm.text.words import split_words

SHAPE = ShapeWords("red", "circle", "large", "left")
LENGTHS = range(1, LONGEST + 1)


def test_a_caption_has_as_many_words_as_asked() -> None:
    assert LONGEST == 20
    for words in LENGTHS:
        captions = captions_of_length(SHAPE, words)
        assert {len(split_words(caption)) for caption in captions} == {words}
        assert len(set(captions)) == len(captions) == (3 if words < 3 else 1)
    assert captions_of_length(SHAPE, 1) == ("red", "circle", "left")
    assert captions_of_length(SHAPE, 7) == ("a large red circle on the left",)


def test_what_a_caption_tells_is_read_back() -> None:
    assert [told_by(caption) for caption in captions_of_length(SHAPE, 2)] == [
        ShapeWords("red", "circle", "", ""),
        ShapeWords("red", "", "", "left"),
        ShapeWords("", "circle", "", "left"),
    ]
    assert told_by("red circle left") == ShapeWords("red", "circle", "", "left")
    for words in LENGTHS[3:]:
        for shape in (SHAPE, ShapeWords("blue", "cross", "small", "right")):
            assert [told_by(caption) for caption in captions_of_length(shape, words)] == [shape]
    with pytest.raises(ConfigError, match="'there is a picture' tells nothing of a shape"):
        told_by("there is a picture")


def test_the_longest_captions_hold_every_word_of_the_shorter_ones() -> None:
    """So that a model trained on the shortest and the longest knows the words of those in between."""

    def words_of(lengths: range) -> set[str]:
        return {word for words in lengths for caption in captions_of_length(SHAPE, words) for word in caption.split()}

    assert words_of(range(1, 15)) <= words_of(range(15, LONGEST + 1))
