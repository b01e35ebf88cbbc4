"""Features of a small classifier trained on the user's own labelled pictures (`classifier_fit`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from open_ldm.core.config import Config
from open_ldm.core.errors import ConfigError
from open_ldm.core.files import hash_file
from open_ldm.core.plain_data import parse_json
from open_ldm.evaluation.features.base import ExtractorId, Features, rounded
from open_ldm.evaluation.features.resize import antialiased, antialiased_rule
from open_ldm.evaluation.features.small_network import SmallNetwork, SmallNetworkConfig
from open_ldm.evaluation.features.weights import load_exactly
from open_ldm.interop.files import read_weights

WEIGHTS = "classifier.safetensors"
DESCRIPTION = "classifier.json"


class ClassifierConfig(Config):
    """`path`: a folder written by `classifier_fit.fit`."""

    kind: Literal["classifier"] = "classifier"
    path: Path

    def build(self, device: torch.device) -> ClassifierExtractor:
        """The extractor, loaded and frozen. Raises ConfigError for a missing, changed or wrong file."""
        return ClassifierExtractor(self, device)


class ClassifierExtractor:
    """Penultimate activations [B, D], class probabilities, and unit-length layers.

    `accuracy`: of held-out pictures; `column`: what it was fitted to tell apart, the class or another attribute. `centres`: the
    number that each class stands for, of a classifier that was fitted on a column of numbers; else None.
    """

    def __init__(self, config: ClassifierConfig, device: torch.device) -> None:
        described = read_description(config.path)
        settings = SmallNetworkConfig.model_validate(described["network"])
        self.class_names = tuple(described["class_names"])
        self.accuracy = float(described["accuracy"])
        self.column = str(described.get("fit", {}).get("column") or "class")
        self.channels = int(described.get("channels", 3))
        numbers = described.get("centres")
        self.centres = None if numbers is None else tuple(float(one) for one in numbers)
        network = SmallNetwork(settings, len(self.class_names), self.channels)
        load_exactly(network, read_weights(config.path / WEIGHTS).state, config.path / WEIGHTS)
        self.network = network.to(device).eval().requires_grad_(False)
        self.device = device
        self.size_px = settings.size_px
        self.dim = settings.dim
        self.id = ExtractorId("classifier", described["sha256"], antialiased_rule(self.size_px, "bilinear"))

    @torch.no_grad()
    def extract(self, images: Tensor) -> Features:
        """Images float [-1, 1] [B, channels, H, W] of any size -> features."""
        return self.network.features(antialiased(rounded(images.to(self.device), self.channels), self.size_px, "bilinear"))


def read_description(folder: Path) -> dict[str, Any]:
    """Read what `fit` wrote beside its weights. Raises ConfigError where it is missing, or the weights are others."""
    try:
        content: dict[str, Any] = parse_json((folder / DESCRIPTION).read_text(encoding="utf-8"))
        stated, found = content["sha256"], hash_file(folder / WEIGHTS)
        _ = content["network"], content["class_names"], content["accuracy"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"classifier.path={str(folder)!r} is no fitted classifier", needed=f"a folder with {DESCRIPTION} and {WEIGHTS}"
        ) from error
    if stated != found:
        raise ConfigError(f"{folder / WEIGHTS} is not the file that {DESCRIPTION} describes", fix="fit the features again")
    return content
