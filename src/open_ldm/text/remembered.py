"""A text encoder that encodes each caption once."""

from __future__ import annotations

from collections.abc import Sequence

from open_ldm.text.base import TextEncoder
from open_ldm.text.tokens import TextTokens


class RememberingEncoder:
    """A frozen encoder that keeps the tokens of every caption it has encoded.

    Each caption is encoded alone, so its tokens do not depend on the rest of its batch. A run that was killed and lost all
    tokens therefore continues with the same bits.
    """

    def __init__(self, encoder: TextEncoder) -> None:
        self._encoder = encoder
        self._known: dict[str, TextTokens] = {}

    @property
    def fingerprint(self) -> str:
        """The encoder's own."""
        return self._encoder.fingerprint

    @property
    def computed_in(self) -> str:
        """The encoder's own."""
        return self._encoder.computed_in

    def encode(self, captions: Sequence[str]) -> TextTokens:
        """Encode captions as the encoder does; only captions that are new are encoded."""
        for caption in captions:
            if caption not in self._known:
                self._known[caption] = self._encoder.encode([caption])
        return TextTokens.joined([self._known[caption] for caption in captions])

    def cut(self, captions: Sequence[str]) -> list[bool]:
        """Return which captions the encoder cuts."""
        return self._encoder.cut(captions)

    def check_prompt(self, caption: str) -> None:
        """Raise ConfigError for a prompt that the encoder cannot encode."""
        self._encoder.check_prompt(caption)
