"""The interface of text encoders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from open_ldm.text.tokens import TextTokens


class TextEncoder(Protocol):
    """A text encoder turns captions into TextTokens, without random numbers.

    It is a frozen network, or a vocabulary of word ids whose vectors the model learns.
    """

    @property
    def fingerprint(self) -> str:
        """Hash of all that determines the tokens of a caption: weights, vocabulary and settings."""

    @property
    def computed_in(self) -> str:
        """Dtype that a frozen network computes in, since its rounding changes the tokens; empty without a network."""

    def encode(self, captions: Sequence[str]) -> TextTokens:
        """Encode captions. A caption that is too long is cut, and an empty caption has no token."""

    def cut(self, captions: Sequence[str]) -> list[bool]:
        """Return which captions have more tokens than the encoder has positions, so that `encode` leaves out their end."""

    def check_prompt(self, caption: str) -> None:
        """Raise ConfigError for a prompt that the encoder cannot encode."""
