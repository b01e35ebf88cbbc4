"""DINOv2, or any other image model of transformers with a pooled output."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from open_ldm.core.config import Config
from open_ldm.core.errors import ConfigError
from open_ldm.evaluation.features.base import Features
from open_ldm.evaluation.features.transformers_model import load_encoder


class DINOv2Config(Config):
    """`path`: a folder with config.json, model.safetensors and preprocessor_config.json, or a hub name such as
    facebook/dinov2-large. `size_px`: side of the pictures given to it (a multiple of its patch)."""

    kind: Literal["dinov2"] = "dinov2"
    path: str
    size_px: int = Field(default=224, ge=1)

    def build(self, device: torch.device) -> DINOv2Extractor:
        """The extractor, loaded and frozen. Raises ConfigError when it cannot be had."""
        return DINOv2Extractor(self, device)


class DINOv2Extractor:
    """The pooled output [B, D] (DINOv2: the normalised class token), as Stein et al. 2023 (arXiv 2306.04675) use for their FD.

    Differs from the paper: pictures are resized by torch's antialiased bicubic filter, without rounding afterwards.
    """

    def __init__(self, config: DINOv2Config, device: torch.device) -> None:
        loaded = load_encoder(config.path, "AutoModel", config.size_px, config.kind, device)
        self.model, self.prepare, self.id, self.device = loaded.model, loaded.preparation, loaded.id, device
        self.dim = self._vectors(torch.zeros(1, 3, config.size_px, config.size_px, device=device)).shape[1]

    @torch.no_grad()
    def extract(self, images: Tensor) -> Features:
        """Images float [-1, 1] [B, 3, H, W] of any size -> features."""
        return Features(self._vectors(self.prepare(images.to(self.device))))

    @torch.no_grad()
    def _vectors(self, values: Tensor) -> Tensor:
        pooled: Tensor | None = getattr(self.model(pixel_values=values), "pooler_output", None)
        if pooled is None:
            raise ConfigError(f"{self.id.name} has no pooled output", needed="an image model with one, such as DINOv2")
        return pooled.flatten(1)
