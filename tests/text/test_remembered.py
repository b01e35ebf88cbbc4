from __future__ import annotations

from collections.abc import Sequence

import torch

from open_ldm.text import TextTokens
from open_ldm.text.remembered import RememberingEncoder


class Counting:
    """An encoder whose tokens tell how many captions it read at once."""

    fingerprint = "of the encoder"
    computed_in = "float16"

    def __init__(self) -> None:
        self.read: list[list[str]] = []

    def encode(self, captions: Sequence[str]) -> TextTokens:
        self.read.append(list(captions))
        tokens = torch.tensor([[float(len(caption)), float(len(captions))] for caption in captions]).unsqueeze(-1)
        return TextTokens(tokens, torch.ones(len(captions), 2, dtype=torch.bool), tokens[:, :, 0])

    def cut(self, captions: Sequence[str]) -> list[bool]:
        return [len(caption) > 3 for caption in captions]

    def check_prompt(self, caption: str) -> None:
        raise KeyError(caption)


def test_each_caption_is_read_once_and_alone() -> None:
    counting = Counting()
    encoder = RememberingEncoder(counting)
    first = encoder.encode(["abcd", "xy", "abcd"])
    assert first.tokens[:, :, 0].tolist() == [[4, 1], [2, 1], [4, 1]]
    assert first.pooled is not None and first.pooled.tolist() == [[4, 1], [2, 1], [4, 1]]
    assert encoder.encode(["xy", "q"]).tokens[:, 0, 0].tolist() == [2, 1]
    assert counting.read == [["abcd"], ["xy"], ["q"]]
    assert (encoder.fingerprint, encoder.computed_in) == ("of the encoder", "float16")
    assert encoder.cut(["abcd", "xy"]) == [True, False]
