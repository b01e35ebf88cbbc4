"""A vocabulary of words whose vectors the model learns, for controlled data and for machines without a text encoder."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from pydantic import Field

from open_ldm.core.config import Config
from open_ldm.core.errors import ConfigError, shortened
from open_ldm.text.tokens import TextTokens

PAD, UNKNOWN = 0, 1
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


class WordsConfig(Config):
    """A vocabulary learned from the captions of the data.

    Attributes:
        length: Number of positions per caption; longer captions are cut.
        max_words: Largest number of words in the vocabulary.
        min_count: Words that occur less often are unknown.
        width: Features per word.
    """

    kind: Literal["words"] = "words"
    length: int = Field(default=16, ge=1, le=512)
    max_words: int = Field(default=4096, ge=1)
    min_count: int = Field(default=1, ge=1)
    width: int = Field(default=128, ge=8)

    @property
    def segments(self) -> tuple[int, ...]:
        """Positions that are padded together: all of them."""
        return (self.length,)

    @property
    def pooled_width(self) -> int:
        """Width of the pooled vector, which is the mean of the words."""
        return self.width


def split_words(caption: str) -> list[str]:
    """Split a caption into lower-case words with composed accents (NFC); punctuation separates words and is dropped."""
    return _WORD.findall(unicodedata.normalize("NFC", caption).lower())


class Vocabulary:
    """The words a model knows. Id 0 is padding, id 1 stands for every unknown word, and the rest follow `words`."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self._ids = {word: index + 2 for index, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words) + 2

    @classmethod
    def from_captions(cls, captions: Iterable[str], config: WordsConfig) -> Vocabulary:
        """Collect the `max_words` most frequent words of the captions, ties in alphabetical order.

        Raises:
            ConfigError: The captions have no word that is frequent enough.
        """
        counts = Counter(word for caption in captions for word in split_words(caption))
        frequent = [word for word, count in counts.items() if count >= config.min_count]
        if not frequent:
            raise ConfigError(
                "the data have no captions to learn words from",
                needed="captions (metadata.jsonl with a text column, or a .txt file beside each picture)",
                fix="add captions, or use conditioning.semantic.kind=class or none",
            )
        frequent.sort(key=lambda word: (-counts[word], word))
        return cls(sorted(frequent[: config.max_words]))

    def unknown(self, caption: str) -> list[str]:
        """Return the words of a caption that this vocabulary does not contain."""
        return [word for word in split_words(caption) if word not in self._ids]

    def require_known(self, caption: str) -> None:
        """Raise ConfigError when a prompt contains words that the vocabulary does not."""
        if missing := self.unknown(caption):
            raise ConfigError(
                f"prompt {caption!r}: the model never saw {shortened(missing, 8)}",
                needed=f"words it was trained with: {shortened(self.words)}",
            )

    def encode(self, captions: Sequence[str], length: int) -> TextTokens:
        """Encode captions as word ids [B, length] and mask; captions longer than `length` are cut."""
        ids = torch.full((len(captions), length), PAD, dtype=torch.long)
        for row, caption in enumerate(captions):
            known = [self._ids.get(word, UNKNOWN) for word in split_words(caption)][:length]
            ids[row, : len(known)] = torch.tensor(known, dtype=torch.long)
        return TextTokens(tokens=ids, mask=ids != PAD)


class WordsEncoder:
    """A vocabulary as a text encoder of `length` positions. Its tokens are word ids; their vectors are part of the model."""

    computed_in = ""

    def __init__(self, vocabulary: Vocabulary, length: int) -> None:
        self.vocabulary, self.length = vocabulary, length

    @property
    def fingerprint(self) -> str:
        """Hash of the words and the number of positions."""
        return hashlib.sha256(repr((self.vocabulary.words, self.length)).encode()).hexdigest()[:32]

    def encode(self, captions: Sequence[str]) -> TextTokens:
        """Encode captions as word ids [B, L] and mask."""
        return self.vocabulary.encode(captions, self.length)

    def cut(self, captions: Sequence[str]) -> list[bool]:
        """Return which captions have more words than positions."""
        return [len(split_words(caption)) > self.length for caption in captions]

    def check_prompt(self, caption: str) -> None:
        """Raise ConfigError when a prompt contains words that the vocabulary does not."""
        self.vocabulary.require_known(caption)
