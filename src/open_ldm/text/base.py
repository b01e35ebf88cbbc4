"""What the rest of the house knows of a text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from open_ldm.text.tokens import TextTokens


class TextEncoder(Protocol):
    """Captions -> TextTokens. Frozen, or a table of word ids whose vectors a model learns; in no case does it draw anything."""

    @property
    def fingerprint(self) -> str:
        """Hash of all that determines the tokens of a caption: weights, vocabulary and settings."""

    @property
    def computed_in(self) -> str:
        """Dtype that a frozen network computes in, which changes its tokens by rounding; empty where there is no network."""

    def encode(self, captions: Sequence[str]) -> TextTokens:
        """Tokens of captions; what is too long is cut, and an empty caption has no token."""

    def cut(self, captions: Sequence[str]) -> list[bool]:
        """Which captions are longer than the places there are, so that `encode` leaves out their end."""

    def check_prompt(self, caption: str) -> None:
        """Raise ConfigError for a prompt that the encoder cannot say."""
