"""Whether CLIP finds the token that it pools a caption at."""

from __future__ import annotations

from typing import Any

from open_ldm.core.errors import ConfigError

_LEGACY = 2
"""With this number in their configuration transformers pools at the largest token, as the first published models need."""


def require_end_mark(settings: Any, tokenizer: Any, name: str) -> None:
    """Raise ConfigError unless the tokenizer ends captions with the token that a CLIP model pools at.

    A model that finds no such token pools at position 0, the mark of the beginning, which is the same for all captions.

    Args:
        settings: The configuration of CLIP's text half.
        tokenizer: Its tokenizer.
        name: What errors call the model.
    """
    eos = settings.eos_token_id
    if eos == _LEGACY:
        return
    given = tokenizer("a")["input_ids"]
    if eos is None or not 0 <= eos < settings.vocab_size or eos not in given:
        ends = f"its tokenizer ends one with {given[-1]}"
        raise ConfigError(
            f"{name} pools a caption at token {eos}, of a vocabulary of {settings.vocab_size}; {ends}",
            needed="the same token, or every caption would have the same vector",
            fix=f"eos_token_id {given[-1]} in the model's config.json",
        )
