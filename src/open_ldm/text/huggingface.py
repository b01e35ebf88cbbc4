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
    """Text models of transformers; `models` is a list of groups, and each group is a list of models.

    The features that the models of one group give at the same position are concatenated (SDXL: CLIP-L and bigG). Groups
    follow one another in the sequence (SD3: [CLIP-L, bigG], then [T5]); narrower groups are padded with zeros to the width
    of the widest. Pooled vectors are concatenated in the order of the list.
    """

    kind: Literal["huggingface"] = "huggingface"
    models: Annotated[tuple[Annotated[tuple[TextModelConfig, ...], Field(min_length=1)], ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _side_by_side_means_equally_long(self) -> HuggingFaceConfig:
        for group in self.models:
            if len(lengths := {model.length for model in group}) > 1:
                raise ValueError(f"models of one group have the lengths {sorted(lengths)}; needed: one length for all of them")
        return self

    @property
    def segments(self) -> tuple[int, ...]:
        """Number of positions of each group; each group is padded on its own."""
        return tuple(group[0].length for group in self.models)

    @property
    def length(self) -> int:
        """Number of positions of the whole sequence."""
        return sum(self.segments)

    @property
    def width(self) -> int:
        """Number of features at a position: that of the widest group."""
        return max(sum(model.width for model in group) for group in self.models)

    @property
    def pooled_width(self) -> int:
        """Width of all pooled vectors together; 0 when there are none."""
        return sum(model.vector for model in chain.from_iterable(self.models))


class HuggingFaceEncoder:
    """The loaded models of a config, in `dtype` on `device`.

    An empty caption has no token here, even where its tokenizer adds marks of beginning and end: it counts as a caption that
    was not given. Where the models of a group split a caption into different numbers of tokens, a position counts as a token
    of the caption when it is one for any of them.
    """

    def __init__(self, config: HuggingFaceConfig, device: torch.device, dtype: torch.dtype) -> None:
        self.width, self.computed_in = config.width, str(dtype).removeprefix("torch.")
        self.groups = [[TextModel(model, device, dtype) for model in group] for group in config.models]
        self._fingerprint: str | None = None

    @property
    def fingerprint(self) -> str:
        """Hash of all models in their order; the files are read once."""
        if self._fingerprint is None:
            parts = [[model.fingerprint for model in group] for group in self.groups]
            self._fingerprint = hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
        return self._fingerprint

    def encode(self, captions: Sequence[str]) -> TextTokens:
        """Encode captions as tokens float32 [B, L, D], mask [B, L] and pooled [B, P] or None; L is the sum over groups."""
        groups = [_join_features([model.encode(captions) for model in group]) for group in self.groups]
        tokens = torch.cat([F.pad(group.tokens, (0, self.width - group.tokens.shape[-1])) for group in groups], dim=1)
        given = torch.tensor([bool(caption.strip()) for caption in captions], device=tokens.device)
        mask = torch.cat([group.mask for group in groups], dim=1) & given.unsqueeze(1)
        return TextTokens(tokens, mask, _join_pooled([group.pooled for group in groups]))

    def cut(self, captions: Sequence[str]) -> list[bool]:
        """Return which captions any of the models cuts."""
        by_model = [model.cut(captions) for model in chain.from_iterable(self.groups)]
        return [any(is_cut) for is_cut in zip(*by_model, strict=True)]

    def check_prompt(self, caption: str) -> None:
        """Accept every prompt: such encoders can encode any text."""


def _join_features(texts: Sequence[TextTokens]) -> TextTokens:
    tokens = torch.cat([text.tokens for text in texts], dim=-1)
    mask = torch.stack([text.mask for text in texts]).any(dim=0)
    return TextTokens(tokens, mask, _join_pooled([text.pooled for text in texts]))


def _join_pooled(pooled: Sequence[Tensor | None]) -> Tensor | None:
    vectors = [vector for vector in pooled if vector is not None]
    return torch.cat(vectors, dim=-1) if vectors else None
