"""What a picture of another source shows, in one word: its class, or a category that words of its captions name.

Of that word a run may be told only a super-class. The rest is hidden: it shows in the pixels, and in no label or caption.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from open_ldm.core.config import Config
from open_ldm.core.errors import ConfigError, nearest, shortened
from open_ldm.data.entangle import RangePart
from open_ldm.data.sample import Source

Groups = dict[str, tuple[str, ...]]


class CaptionWordsConfig(Config):
    """Categories by words: a picture belongs to the first of which a word or phrase is in one of its captions.

    Whole words count, in capital letters or small ones.
    """

    words: Groups

    @model_validator(mode="after")
    def _categories_have_words(self) -> CaptionWordsConfig:
        empty = [name for name, words in self.words.items() if not any(_normal(word) for word in words)]
        if len(self.words) < 2 or empty:
            given = f"category {empty[0]!r} has no words" if empty else f"{len(self.words)} categories"
            raise ValueError(f"words: {given}; needed: at least two categories, such as {{animal: [cat, dog], food: [cake]}}")
        return self


class EntangleShrunkConfig(Config):
    """How often the size of a shrunk picture depends on what the picture shows.

    Attributes:
        by: `class`, or categories by words of the captions.
        strength: Probability that a size lies in the part of the range that belongs to the picture's category. The categories
            of each super-class, or all of them, divide the range, on a log scale, into equal parts in their order.
    """

    by: Literal["class"] | CaptionWordsConfig = "class"
    strength: float = Field(ge=0, le=1)


class Categories:
    """Category, part of the range and super-class of every picture of a source.

    Args:
        source: The pictures, with their classes and captions.
        by: What decides the category.
        told: Super-classes and the categories of each; None tells everything.

    Raises:
        ConfigError: The source has no classes or no captions, or `told` names a category that is none.
    """

    def __init__(
        self, source: Source, by: Literal["class"] | CaptionWordsConfig, told: Mapping[str, tuple[str, ...]] | None
    ) -> None:
        self._source = source
        self._words: list[tuple[str, list[str]]] = []
        if by == "class":
            if not source.class_names:
                fix = "give the pictures classes, or set data.source.entangle.by={words: {...}}"
                raise ConfigError(f"the pictures have no classes: {source.summary.sentence()}", needed="a class each", fix=fix)
            self.names = source.class_names
        else:
            if not source.summary.captioned:
                fix = "give the pictures captions, or set data.source.entangle.by=class"
                raise ConfigError(f"the pictures have no captions: {source.summary.sentence()}", needed="captions", fix=fix)
            self.names = tuple(by.words)
            self._words = [(name, [f" {_normal(word)} " for word in words]) for name, words in by.words.items()]
        for name in (name for names in (told or {}).values() for name in names):
            if name not in self.names:
                raise ConfigError(f"data.source.told names {name!r}, which is no category", needed=nearest(name, self.names))
        groups = list(told.values()) if told is not None else [self.names]
        self._parts = {name: RangePart(k, len(names)) for names in groups for k, name in enumerate(names)}
        self._told = {name: number for number, names in enumerate((told or {}).values()) for name in names}

    def category_of(self, index: int) -> str | None:
        """Return the category of a picture without reading it; None where it has none."""
        if not self._words:
            label = self._source.label_of(index)
            return None if label is None else self.names[label]
        said = [f" {_normal(caption)} " for caption in self._source.captions_of(index)]
        return next((name for name, words in self._words if any(word in one for word in words for one in said)), None)

    def part_of(self, category: str | None) -> RangePart | None:
        """Return the part of the range that belongs to a category."""
        return None if category is None else self._parts.get(category)

    def label_of(self, category: str | None) -> int | None:
        """Return the number of the super-class of a category; None where it has none."""
        return None if category is None else self._told.get(category)

    def is_left_out(self, index: int) -> bool:
        """Tell whether a picture belongs to no super-class. One whose class cannot be used stays, and counts as bad."""
        category = self.category_of(index)
        if category is None:
            return bool(self._words)
        return category not in self._told


def check_told(told: Mapping[str, tuple[str, ...]]) -> None:
    """Raise ValueError unless every super-class has categories and each category belongs to one of them."""
    named = [name for names in told.values() for name in names]
    empty = [name for name, names in told.items() if not names]
    if not told or empty:
        given = f"super-class {empty[0]!r} has no classes" if empty else "no super-class"
        raise ValueError(f"told: {given}; needed: such as {{vehicle: [ship, truck], animal: [cat, dog]}}")
    if len(set(named)) < len(named):
        twice = dict.fromkeys(name for name in named if named.count(name) > 1)
        raise ValueError(f"told names {shortened(twice, 4)} twice; needed: each class in one super-class")


def _normal(text: str) -> str:
    """Return the words of a text in lower case with one space between them."""
    return " ".join(re.findall(r"\w+", text.lower()))
