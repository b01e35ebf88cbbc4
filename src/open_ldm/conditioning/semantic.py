"""Semantic conditions: class or caption, routed to `context` (attention) or `modulation` (adaptive norms) by the recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator
from torch import Tensor, nn

from open_ldm.conditioning.inputs import ConditionInputs
from open_ldm.core.config import Config
from open_ldm.core.later_settings import without_defaults
from open_ldm.text import HuggingFaceConfig, TextEncoderConfig, TextTokens, WordsConfig
from open_ldm.text.padding import PaddingKind, pad_segments

Route = Literal["modulation", "context", "both"]


class NoSemantic(Config):
    """No semantic condition: the model is unconditional, or has controls alone."""

    kind: Literal["none"] = "none"


class ClassSemantic(Config):
    """A class label.

    `route: modulation` adds its vector to the time embedding, as DiT was published. `route: context` gives attention one
    token, as the improved DiT and the published UNet do. `width` is the width of that token, by default the modulation's.
    """

    kind: Literal["class"] = "class"
    route: Literal["modulation", "context"] = "context"
    width: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _every_setting_is_read(self) -> ClassSemantic:
        if self.width is not None and self.route == "modulation":
            raise ValueError("width has no effect with route: modulation, whose vectors have the width of the time embedding")
        return self


class TextSemantic(Config):
    """A caption.

    `route: context` gives its tokens to attention, `route: modulation` gives one pooled vector, `route: both` gives both, as
    Stable Diffusion 3 does. `padding` fills the positions of the context that a caption leaves free (docs/method.md section
    2); `route: modulation` has no such positions. `padding_floor` is the spread, in units of its size, that noisy_replicate
    ascribes to a caption of one token, whose copies are exact with 0.

    `null_kind` replaces a caption that is dropped or empty: by one learned `token` at every position; by a learned `table`
    of one token per position (PixArt's y_embedding); or by `zeros` (Stable Diffusion XL and 3). The pooled vector has its own
    null: learned, or zeros with `zeros`. With `null_keeps_mask` a dropped caption keeps the mask of its words (PixArt);
    otherwise the null is attended at every position.
    """

    kind: Literal["text"] = "text"
    route: Route = "context"
    encoder: TextEncoderConfig = WordsConfig()
    padding: PaddingKind = "noisy_replicate"
    padding_floor: float = Field(default=0.0, ge=0)
    null_kind: Literal["token", "table", "zeros"] = "token"
    null_keeps_mask: bool = False

    @model_validator(mode="after")
    def _every_setting_is_read(self) -> TextSemantic:
        if self.null_kind == "table" and self.route == "modulation":
            raise ValueError("null_kind: table has no effect with route: modulation, which has no tokens")
        if self.null_keeps_mask and (self.padding != "mask" or self.route == "modulation"):
            raise ValueError("null_keeps_mask has no effect without padding: mask and a context")
        if self.padding_floor and noise_shape(self) is None:
            raise ValueError("padding_floor has no effect without padding: noisy_replicate and a context")
        if isinstance(self.encoder, HuggingFaceConfig):
            if self.route == "context" and self.encoder.pooled_width:
                raise ValueError("pooled vectors have no effect with route: context; needed: pooled: none, or route: both")
            if self.route != "context" and not self.encoder.pooled_width:
                raise ValueError(f"route: {self.route} needs a pooled vector; needed: pooled: mean, eos or projected")
        return self

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(self, written(self), ("padding_floor",))


SemanticConfig = Annotated[NoSemantic | ClassSemantic | TextSemantic, Field(discriminator="kind")]


@dataclass(frozen=True)
class SemanticSlots:
    """What a semantic condition puts in each slot; None for a slot that it leaves empty."""

    modulation: Tensor | None = None
    context: Tensor | None = None
    mask: Tensor | None = None


class ClassCondition(nn.Module):
    """A table of one vector per class, and a last one for 'no class'."""

    def __init__(self, config: ClassSemantic, classes: int, width: int) -> None:
        super().__init__()
        width = config.width or width
        self.route = config.route
        self.context_dim = width if config.route == "context" else None
        self.null = classes
        self.table = nn.Embedding(classes + 1, width)
        # As a token the vector is not summed with anything, so it starts at a token's usual size.
        nn.init.normal_(self.table.weight, std=0.02 if config.route == "modulation" else 1.0)

    def forward(self, inputs: ConditionInputs) -> SemanticSlots:
        """Embed labels [B] as modulation [B, D] or context [B, 1, D]."""
        if inputs.labels is None:
            raise ValueError("a class-conditional model needs labels; none were given")
        vectors = self.table(torch.where(inputs.keep_semantic, inputs.labels, self.null))
        if self.route == "modulation":
            return SemanticSlots(modulation=vectors)
        return SemanticSlots(context=vectors.unsqueeze(1))


class TextCondition(nn.Module):
    """Word ids or features of a frozen encoder to padded tokens, a pooled vector, or both, as the route says.

    Each word has a learned vector and each position of a caption another, and the two are added; features stay as they are.
    """

    def __init__(self, config: TextSemantic, vocabulary: int, width: int) -> None:
        super().__init__()
        self.padding, self.route, self.null_kind = config.padding, config.route, config.null_kind
        self.padding_floor = config.padding_floor
        self.segments, self.null_keeps_mask = config.encoder.segments, config.null_keeps_mask
        length, features = config.encoder.length, config.encoder.width
        self.context_dim = features if config.route != "modulation" else None
        self.learns_words = isinstance(config.encoder, WordsConfig)
        if self.learns_words:
            self.words = nn.Embedding(vocabulary, features)
            self.places = nn.Parameter(torch.randn(length, features) * 0.5)
        if config.route != "modulation" and config.null_kind == "token":
            self.null_token = nn.Parameter(torch.randn(features))
        if config.null_kind == "table":
            self.null_tokens = nn.Parameter(torch.randn(length, features) * features**-0.5)
        if config.route != "context":
            vector = config.encoder.pooled_width
            self.pooled = nn.Sequential(nn.Linear(vector, width), nn.SiLU(), nn.Linear(width, width))
            if config.null_kind != "zeros":
                self.null_pooled = nn.Parameter(torch.zeros(vector))

    def forward(self, inputs: ConditionInputs) -> SemanticSlots:
        """Embed word ids [B, L] or features [B, L, features] as context [B, L, features], modulation [B, D] or both."""
        if inputs.text is None:
            raise ValueError("a text-conditional model needs captions; none were given")
        text = inputs.text
        tokens = self.words(text.tokens) + self.places if self.learns_words else text.tokens  # [B, L, features]
        kept = inputs.keep_semantic & text.mask.any(dim=1)
        modulation = self._pooled(tokens, text, kept) if self.route != "context" else None
        if self.route == "modulation":
            return SemanticSlots(modulation=modulation)
        noise = inputs.padding_noise
        padded = pad_segments(tokens, text.mask, self.segments, self.padding, noise, self.padding_floor)
        context = torch.where(kept.view(-1, 1, 1), padded.tokens, self._null())
        return SemanticSlots(modulation, context, self._mask(padded.mask, kept))

    def _pooled(self, tokens: Tensor, text: TextTokens, kept: Tensor) -> Tensor:
        """Return the caption's vector (for words, their mean) through an MLP; the null vector where there is no caption."""
        vector = text.pooled
        if self.learns_words:
            real = text.mask.unsqueeze(-1)
            vector = (tokens * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)
        if vector is None:
            raise ValueError(f"route: {self.route} needs pooled vectors of the captions; none were given")
        null = torch.zeros_like(vector) if self.null_kind == "zeros" else self.null_pooled
        out: Tensor = self.pooled(torch.where(kept.unsqueeze(1), vector, null))
        return out

    def _null(self) -> Tensor | float:
        """Return the tokens that replace a missing caption, broadcastable to [B, L, features]."""
        match self.null_kind:
            case "token":
                return self.null_token
            case "table":
                return self.null_tokens
            case _:
                return 0.0

    def _mask(self, mask: Tensor | None, kept: Tensor) -> Tensor | None:
        """Return the mask of the context: where a caption is dropped every position is attended, unless its mask is kept."""
        return mask if mask is None or self.null_keeps_mask else mask | ~kept.unsqueeze(1)


def noise_shape(config: NoSemantic | ClassSemantic | TextSemantic) -> tuple[int, int] | None:
    """Return the shape (L, D) of the noise that this condition's padding needs per picture; None when it needs none."""
    if isinstance(config, TextSemantic) and config.padding == "noisy_replicate" and config.route != "modulation":
        return config.encoder.length, config.encoder.width
    return None
