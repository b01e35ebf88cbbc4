from __future__ import annotations

import unicodedata

import pytest
import torch

from open_ldm.core.errors import ConfigError
from open_ldm.text.words import PAD, UNKNOWN, Vocabulary, WordsConfig, split_words

CAPTIONS = ("A red circle.", "a blue circle, left of a red square", "RED!")


def test_words_are_lower_case_without_punctuation() -> None:
    assert split_words("It's a Red_circle: 2x, (naïve) – don’t") == [
        "it's", "a", "red", "circle", "2x", "naïve", "don’t",
    ]  # fmt: skip
    assert split_words(" ... ") == []


def test_vocabulary_holds_every_word_once_in_alphabetical_order() -> None:
    vocabulary = Vocabulary.from_captions(CAPTIONS, WordsConfig())
    assert vocabulary.words == ("a", "blue", "circle", "left", "of", "red", "square")
    assert len(vocabulary) == 9


def test_vocabulary_keeps_the_most_frequent_ties_alphabetical() -> None:
    assert Vocabulary.from_captions(CAPTIONS, WordsConfig(max_words=3)).words == ("a", "circle", "red")
    assert Vocabulary.from_captions(CAPTIONS, WordsConfig(max_words=4)).words == ("a", "blue", "circle", "red")
    assert Vocabulary.from_captions(CAPTIONS, WordsConfig(min_count=2)).words == ("a", "circle", "red")


def test_vocabulary_does_not_depend_on_the_order_of_captions() -> None:
    captions, config = ("zebra", "apple", "mango"), WordsConfig(max_words=2)
    assert Vocabulary.from_captions(captions, config).words == ("apple", "mango")
    assert Vocabulary.from_captions(captions[::-1], config).words == ("apple", "mango")


def test_encode_pads_cuts_and_marks_unknown_words() -> None:
    vocabulary = Vocabulary(("a", "blue", "red"))
    text = vocabulary.encode(["a red fox", "", "red red red red blue"], length=4)
    assert text.tokens.tolist() == [[2, 4, UNKNOWN, PAD], [PAD] * 4, [4, 4, 4, 4]]
    assert text.mask.tolist() == [[True, True, True, False], [False] * 4, [True] * 4]
    assert text.tokens.dtype == torch.long
    assert text.pooled is None


def test_every_id_lies_in_the_table() -> None:
    vocabulary = Vocabulary.from_captions(CAPTIONS, WordsConfig())
    tokens = vocabulary.encode([*CAPTIONS, "never seen"], length=8).tokens
    assert int(tokens.max()) == len(vocabulary) - 1
    assert int(tokens.min()) == PAD


def test_a_prompt_with_unknown_words_is_one_line() -> None:
    vocabulary = Vocabulary(("a", "red"))
    vocabulary.require_known("A red, red a")
    with pytest.raises(ConfigError, match=r"never saw green, fox; needed: .*a, red") as caught:
        vocabulary.require_known("a green fox")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("captions", [(), ("", "..."), ("once",)])
def test_data_without_words_is_refused(captions: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="no captions"):
        Vocabulary.from_captions(captions, WordsConfig(min_count=2))


def test_decomposed_accents_are_the_same_words() -> None:
    decomposed = unicodedata.normalize("NFD", "Un Café naïf")
    assert split_words(decomposed) == split_words("un café naïf") == ["un", "café", "naïf"]
    Vocabulary(("café",)).require_known(unicodedata.normalize("NFD", "café"))
