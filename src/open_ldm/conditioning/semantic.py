"""Semantic conditions: class or caption, routed to `context` (attention) or `modulation` (adaptive norms) as declared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from open_ldm.conditioning.inputs import ConditionInputs
from open_ldm.core.config import Config
from open_ldm.text.padding import PaddingKind, pad
from open_ldm.text.words import WordsConfig

Route = Literal["modulation", "context", "both"]


class NoSemantic(Config):
    """Nothing says what the picture shows."""

    kind: Literal["none"] = "none"


class ClassSemantic(Config):
    """A class label. `modulation`: summed with the time (as published); `context`: one token for attention (improved)."""

    kind: Literal["class"] = "class"
    route: Literal["modulation", "context"] = "context"


class TextSemantic(Config):
    """A caption. `context`: its tokens for attention; `modulation`: one pooled vector; `both`: as Stable Diffusion 3.

    `padding` fills the places of the context that a caption leaves free; `route: modulation` has none, and does without.
    """

    kind: Literal["text"] = "text"
    route: Route = "context"
    encoder: WordsConfig = WordsConfig()
    padding: PaddingKind = "noisy_replicate"


SemanticConfig = Annotated[NoSemantic | ClassSemantic | TextSemantic, Field(discriminator="kind")]


@dataclass(frozen=True)
class SemanticSlots:
    """What a semantic condition puts in each slot; None where it puts nothing."""

    modulation: Tensor | None = None
    context: Tensor | None = None
    mask: Tensor | None = None


class ClassCondition(nn.Module):
    """A table of one vector per class and a last one for 'no class'."""

    def __init__(self, config: ClassSemantic, classes: int, width: int) -> None:
        super().__init__()
        self.route = config.route
        self.context_dim = width if config.route == "context" else None
        self.null = classes
        self.table = nn.Embedding(classes + 1, width)
        # As a token the vector is not summed with anything, so it starts at a token's usual size.
        nn.init.normal_(self.table.weight, std=0.02 if config.route == "modulation" else 1.0)

    def forward(self, inputs: ConditionInputs) -> SemanticSlots:
        """labels [B] -> modulation [B, D] or context [B, 1, D]."""
        if inputs.labels is None:
            raise ValueError("a class-conditional model got no labels")
        vectors = self.table(torch.where(inputs.keep_semantic, inputs.labels, self.null))
        if self.route == "modulation":
            return SemanticSlots(modulation=vectors)
        return SemanticSlots(context=vectors.unsqueeze(1))


class TextCondition(nn.Module):
    """Word ids -> features with their place in the caption -> padded tokens and, if routed so, a pooled vector."""

    def __init__(self, config: TextSemantic, vocabulary: int, width: int) -> None:
        super().__init__()
        self.padding, self.route = config.padding, config.route
        features = config.encoder.width
        self.context_dim = features if config.route != "modulation" else None
        self.words = nn.Embedding(vocabulary, features)
        self.places = nn.Parameter(torch.randn(config.encoder.length, features) * 0.5)
        if config.route != "modulation":
            self.null_token = nn.Parameter(torch.randn(features))
        if config.route != "context":
            self.pooled = nn.Sequential(nn.Linear(features, width), nn.SiLU(), nn.Linear(width, width))
            self.null_pooled = nn.Parameter(torch.zeros(features))

    def forward(self, inputs: ConditionInputs) -> SemanticSlots:
        """Word ids [B, L] -> context [B, L, features] and/or modulation [B, D]."""
        if inputs.text is None:
            raise ValueError("a text-conditional model got no captions")
        tokens = self.words(inputs.text.tokens) + self.places  # [B, L, features]
        kept = inputs.keep_semantic & inputs.text.mask.any(dim=1)
        modulation = self._pooled(tokens, inputs.text.mask, kept) if self.route != "context" else None
        if self.route == "modulation":
            return SemanticSlots(modulation=modulation)
        padded = pad(tokens, inputs.text.mask, self.padding, inputs.padding_noise)
        context = torch.where(kept.view(-1, 1, 1), padded.tokens, self.null_token)
        return SemanticSlots(modulation, context, self._mask(padded.mask, kept))

    def _pooled(self, tokens: Tensor, mask: Tensor, kept: Tensor) -> Tensor:
        """The mean of a caption's tokens through an MLP; a learned vector where there is no caption."""
        real = mask.unsqueeze(-1)
        mean = (tokens * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)
        vector: Tensor = self.pooled(torch.where(kept.unsqueeze(1), mean, self.null_pooled))
        return vector

    @staticmethod
    def _mask(mask: Tensor | None, kept: Tensor) -> Tensor | None:
        """Where the caption is dropped its mask goes too: the null token stands at every place."""
        return None if mask is None else mask | ~kept.unsqueeze(1)


def noise_shape(config: NoSemantic | ClassSemantic | TextSemantic) -> tuple[int, int] | None:
    """(L, D) of the noise that this condition's padding needs per picture, or None."""
    if isinstance(config, TextSemantic) and config.padding == "noisy_replicate" and config.route != "modulation":
        return config.encoder.length, config.encoder.width
    return None
