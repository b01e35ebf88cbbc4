"""An untrained network of a fixed seed: for tests, and as a yardstick that knows nothing."""

from __future__ import annotations

import hashlib
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from open_ldm.core.config import Config
from open_ldm.evaluation.features.base import ExtractorId, Features, rounded
from open_ldm.evaluation.features.resize import antialiased, antialiased_rule
from open_ldm.evaluation.features.small_network import SmallNetworkConfig, new_network

_CLASSES = 10


class RandomConfig(Config):
    """Weights drawn from `seed`. Distances between its features are consistent, but do not match human perception."""

    kind: Literal["random"] = "random"
    seed: int = Field(default=0, ge=0)
    network: SmallNetworkConfig = SmallNetworkConfig()

    def build(self, device: torch.device) -> RandomExtractor:
        """The extractor."""
        return RandomExtractor(self, device)


class RandomExtractor:
    """Features of the untrained network."""

    def __init__(self, config: RandomConfig, device: torch.device) -> None:
        self.network = new_network(config.network, _CLASSES, config.seed).to(device).eval().requires_grad_(False)
        self.device = device
        self.size_px = config.network.size_px
        self.dim = config.network.dim
        digest = hashlib.sha256()
        for name, tensor in self.network.state_dict().items():
            digest.update(name.encode() + tensor.cpu().numpy().tobytes())
        self.id = ExtractorId("random", digest.hexdigest(), antialiased_rule(self.size_px, "bilinear"))

    @torch.no_grad()
    def extract(self, images: Tensor) -> Features:
        """Images float [-1, 1] [B, 3, H, W] of any size -> features."""
        return self.network.features(antialiased(rounded(images.to(self.device)), self.size_px, "bilinear"))
