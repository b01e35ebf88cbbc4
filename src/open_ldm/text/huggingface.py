"""Frozen text models of transformers, one or several together, as one text encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import chain
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from open_ldm.core.config import Config
from open_ldm.text.text_model import TextModel, TextModelConfig
from open_ldm.text.tokens import TextTokens


class HuggingFaceConfig(Config):
    """`models`: a list of groups, each a list of models.

    Models of one group stand side by side: their features of the same place are joined (SDXL: CLIP-L and bigG). Groups
    follow one another in the sequence (SD3: [CLIP-L, bigG], then [T5]); narrower ones are filled up with zeros to the
    widest. Pooled vectors are joined in the order of the list.
    """

    kind: Literal["huggingface"] = "huggingface"
    models: Annotated[tuple[Annotated[tuple[TextModelConfig, ...], Field(min_length=1)], ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _side_by_side_means_equally_long(self) -> HuggingFaceConfig:
        for group in self.models:
            if len(lengths := {model.length for model in group}) > 1:
                raise ValueError(f"models of one group stand side by side: length {sorted(lengths)} must be one number")
        return self

    @property
    def segments(self) -> tuple[int, ...]:
        """Places of each group; each is padded on its own."""
        return tuple(group[0].length for group in self.models)

    @property
    def length(self) -> int:
        """Places of the whole sequence."""
        return sum(self.segments)

    @property
    def width(self) -> int:
        """Features of a place: those of the widest group."""
        return max(sum(model.width for model in group) for group in self.models)

    @property
    def pooled_width(self) -> int:
        """Width of all pooled vectors together; 0 when there are none."""
        return sum(model.vector for model in chain.from_iterable(self.models))


class HuggingFaceEncoder:
    """The loaded models of a config, in `dtype` on `device`.

    An empty caption has no token here, whatever marks its tokenizer would make of it: it counts as a caption not given.
    Where models side by side write a caption with different numbers of tokens, a place counts as a token of the caption
    when it is one for any of them.
    """

    def __init__(self, config: HuggingFaceConfig, device: torch.device, dtype: torch.dtype) -> None:
        self.width, self.computed_in = config.width, str(dtype).removeprefix("torch.")
        self.groups = [[TextModel(model, device, dtype) for model in group] for group in config.models]
        self._fingerprint: str | None = None

    @property
    def fingerprint(self) -> str:
        """Hash of all models in their order; files are read once."""
        if self._fingerprint is None:
            parts = [[model.fingerprint for model in group] for group in self.groups]
            self._fingerprint = hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
        return self._fingerprint

    def encode(self, captions: Sequence[str]) -> TextTokens:
        """tokens float32 [B, L, D], mask [B, L], pooled [B, P] or None; L is the sum over groups."""
        groups = [_side_by_side([model.encode(captions) for model in group]) for group in self.groups]
        tokens = torch.cat([F.pad(one.tokens, (0, self.width - one.tokens.shape[-1])) for one in groups], dim=1)
        said = torch.tensor([bool(caption.strip()) for caption in captions], device=tokens.device)
        mask = torch.cat([one.mask for one in groups], dim=1) & said.unsqueeze(1)
        return TextTokens(tokens, mask, _joined([one.pooled for one in groups]))

    def cut(self, captions: Sequence[str]) -> list[bool]:
        """Which captions any of the models cuts."""
        each = [model.cut(captions) for model in chain.from_iterable(self.groups)]
        return [any(verdicts) for verdicts in zip(*each, strict=True)]

    def check_prompt(self, caption: str) -> None:
        """Such encoders can say anything."""


def _side_by_side(models: Sequence[TextTokens]) -> TextTokens:
    tokens = torch.cat([one.tokens for one in models], dim=-1)
    mask = torch.stack([one.mask for one in models]).any(dim=0)
    return TextTokens(tokens, mask, _joined([one.pooled for one in models]))


def _joined(pooled: Sequence[Tensor | None]) -> Tensor | None:
    there = [one for one in pooled if one is not None]
    return torch.cat(there, dim=-1) if there else None
