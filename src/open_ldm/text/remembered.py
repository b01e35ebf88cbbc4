"""A text encoder that reads each caption once."""

from __future__ import annotations

from collections.abc import Sequence

from open_ldm.text.base import TextEncoder
from open_ldm.text.tokens import TextTokens


class RememberingEncoder:
    """Wraps a frozen encoder and keeps the tokens of every caption it has met.

    Each is encoded alone: what a caption gives then depends on nothing that stood beside it in a batch, and a run that was
    killed and forgot everything goes on with the same bits.
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
        """As the encoder would."""
        for caption in captions:
            if caption not in self._known:
                self._known[caption] = self._encoder.encode([caption])
        return TextTokens.joined([self._known[caption] for caption in captions])

    def cut(self, captions: Sequence[str]) -> list[bool]:
        """As the encoder says."""
        return self._encoder.cut(captions)

    def check_prompt(self, caption: str) -> None:
        """As the encoder says."""
        self._encoder.check_prompt(caption)
