"""CLIP: one space for pictures and captions."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from open_ldm.core.config import Config
from open_ldm.core.errors import ConfigError
from open_ldm.core.extras import need
from open_ldm.core.model_folders import code_allowed, own_code_error
from open_ldm.evaluation.features.base import Features
from open_ldm.evaluation.features.transformers_model import load_encoder
from open_ldm.text.end_mark import require_end_mark

_SCALE = 100.0


class CLIPConfig(Config):
    """`path`: a folder of transformers' CLIPModel with tokenizer and preprocessor_config.json or processor_config.json, or a
    hub name such as openai/clip-vit-large-patch14. `size_px`: null prepares pictures as the model's own processor does, for the
    side that the model reads; a number resizes both sides to it in floating point."""

    kind: Literal["clip"] = "clip"
    path: str
    size_px: int | None = Field(default=None, ge=1)

    def build(self, device: torch.device) -> CLIPExtractor:
        """The extractor, loaded and frozen. Raises ConfigError when it cannot be had."""
        return CLIPExtractor(self, device)


class CLIPExtractor:
    """Projected picture embeddings [B, D], and scores of captions: 100 max(cos, 0)."""

    def __init__(self, config: CLIPConfig, device: torch.device) -> None:
        loaded = load_encoder(config.path, "CLIPModel", config.size_px, config.kind, device)
        self.model, self.prepare, self.id, self.device = loaded.model, loaded.preparation, loaded.id, device
        self.dim = int(self.model.config.projection_dim)
        try:
            self._tokenizer: Any = need("transformers", extra="text").AutoTokenizer.from_pretrained(
                loaded.folder, trust_remote_code=code_allowed(config.path)
            )
        except (OSError, ValueError, KeyError) as error:
            if (own := own_code_error(config.path, "clip.path", error)) is not None:
                raise own from error
            raise ConfigError(
                f"clip.path={config.path!r} has no usable tokenizer", needed="tokenizer.json beside it"
            ) from error
        require_end_mark(self.model.config.text_config, self._tokenizer, f"clip.path={config.path!r}")

    @torch.no_grad()
    def extract(self, images: Tensor) -> Features:
        """Images float [-1, 1] [B, 3, H, W] of any size -> features."""
        values = self.prepare(images.to(self.device))
        vectors: Tensor = self.model.get_image_features(pixel_values=values).pooler_output
        return Features(vectors)

    @torch.no_grad()
    def caption_scores(self, features: Features, captions: tuple[str, ...]) -> Tensor:
        """100 max(cos(picture, caption), 0) [B]; captions longer than the encoder reads are cut."""
        length = self.model.config.text_config.max_position_embeddings
        tokens = self._tokenizer(list(captions), padding=True, truncation=True, max_length=length, return_tensors="pt")
        inputs = {name: tokens[name].to(self.device) for name in ("input_ids", "attention_mask")}
        texts: Tensor = self.model.get_text_features(**inputs).pooler_output
        return _SCALE * F.cosine_similarity(features.vectors, texts, dim=1).clamp(min=0)
