"""Feature extractors. A new kind is one file and one line in the union below."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field

from open_ldm.evaluation.features.base import ExtractorId, FeatureExtractor, Features
from open_ldm.evaluation.features.classifier import ClassifierConfig
from open_ldm.evaluation.features.clip import CLIPConfig
from open_ldm.evaluation.features.dinov2 import DINOv2Config
from open_ldm.evaluation.features.inception import InceptionConfig
from open_ldm.evaluation.features.lpips import LPIPSConfig
from open_ldm.evaluation.features.random import RandomConfig

FeatureConfig = Annotated[
    InceptionConfig | DINOv2Config | CLIPConfig | LPIPSConfig | ClassifierConfig | RandomConfig, Field(discriminator="kind")
]


def build_extractor(config: FeatureConfig, device: torch.device) -> FeatureExtractor:
    """Load and freeze the extractor that a config describes. Raises ConfigError when its files are missing or do not fit."""
    return config.build(device)


__all__ = [
    "CLIPConfig",
    "ClassifierConfig",
    "DINOv2Config",
    "ExtractorId",
    "FeatureConfig",
    "FeatureExtractor",
    "Features",
    "InceptionConfig",
    "LPIPSConfig",
    "RandomConfig",
    "build_extractor",
]
