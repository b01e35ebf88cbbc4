"""The random numbers of one picture of the shapes, each with its own purpose."""

from __future__ import annotations

from typing import TypeVar

from open_ldm.core.seeds import key

T = TypeVar("T")


class Draws:
    """Independent random numbers for one picture, each with its own purpose."""

    def __init__(self, seed: int, index: int) -> None:
        self._seed, self._index = seed, index

    def between(self, purpose: str, low: float, high: float) -> float:
        """Draw a number from [low, high), by the purpose."""
        return low + (high - low) * (key(self._seed, f"shapes {purpose}", self._index) / 2**63)

    def one_of(self, purpose: str, options: list[T] | tuple[T, ...]) -> T:
        """Draw one of the options, by the purpose."""
        return options[key(self._seed, f"shapes {purpose}", self._index) % len(options)]

    def picture_size(self, short: int, longest: float) -> tuple[int, int]:
        """Draw (height, width) of a short side: two in five pictures are square, the rest log-uniform up to the longest
        ratio."""
        if self.between("square", 0, 1) < 0.4:
            return short, short
        long = round(short * longest ** self.between("aspect ratio", 0, 1))
        return (short, long) if self.one_of("orientation", ("wide", "tall")) == "wide" else (long, short)
