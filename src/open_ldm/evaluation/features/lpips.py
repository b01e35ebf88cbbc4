"""LPIPS: a perceptual distance over a classifier's layers, with learned weights per channel."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from open_ldm.core.config import Config
from open_ldm.core.errors import ConfigError, DataError
from open_ldm.evaluation.features.base import ExtractorId, Features, rounded
from open_ldm.evaluation.features.distance import pooled, unit_channels
from open_ldm.evaluation.features.lpips_trunks import TAPS, Trunk, TrunkName
from open_ldm.evaluation.features.weights import find_file, hash_of, load_exactly
from open_ldm.interop.files import read_weights

_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
"""ImageNet's mean and deviation per colour, for pictures in [-1, 1], as the published heads were trained (version 0.1)."""


class LPIPSConfig(Config):
    """`weights`: torchvision's state-dict file of the `trunk`; `heads`: the linear heads of Zhang et al. for the same trunk
    (version 0.1: alex.pth, vgg.pth, squeeze.pth). Each a path, or OWNER/NAME/FILE on the hub."""

    kind: Literal["lpips"] = "lpips"
    trunk: TrunkName = "alexnet"
    weights: str
    heads: str

    def build(self, device: torch.device) -> LPIPSExtractor:
        """The extractor, loaded and frozen. Raises ConfigError for a missing or wrong file."""
        return LPIPSExtractor(self, device)


class LPIPSExtractor:
    """d(x, y) = sum over layers of the mean over positions of |w^(1/2) (f(x) - f(y))|^2, f of unit length at every position
    (Zhang et al. 2018, arXiv 1801.03924, eq. 1): `layers` holds w^(1/2) f, `vectors` its means.

    Pictures are compared at their own size. Differs from the paper: they are rounded to 8 bits first.
    """

    def __init__(self, config: LPIPSConfig, device: torch.device) -> None:
        trunk_file, heads_file = find_file(config.weights, "lpips.weights"), find_file(config.heads, "lpips.heads")
        trunk = Trunk(config.trunk)
        own = {name: tensor for name, tensor in read_weights(trunk_file).state.items() if name.startswith("features.")}
        load_exactly(trunk, own, trunk_file)
        self.trunk = trunk.to(device).eval().requires_grad_(False)
        self.roots = [head.sqrt().to(device) for head in _heads(read_weights(heads_file).state, config.trunk, heads_file)]
        self.device = device
        self.least_px = TAPS[config.trunk].least_px
        self.dim = sum(TAPS[config.trunk].channels)
        self.id = ExtractorId(f"lpips {config.trunk}", hash_of([trunk_file, heads_file]), resize="none")
        self._shift = torch.tensor(_SHIFT, device=device).view(1, 3, 1, 1)
        self._scale = torch.tensor(_SCALE, device=device).view(1, 3, 1, 1)

    @torch.no_grad()
    def extract(self, images: Tensor) -> Features:
        """Images float [-1, 1] [B, 3, H, W] -> weighted layers and their means."""
        images = rounded(images.to(self.device))
        if min(images.shape[-2:]) < self.least_px:
            size = "x".join(map(str, images.shape[-2:]))
            raise DataError(f"{self.id.name}: the pictures have {size} px", needed=f"at least {self.least_px} px on each side")
        maps = self.trunk((images - self._shift) / self._scale)
        layers = tuple(unit_channels(each) * root for each, root in zip(maps, self.roots, strict=True))
        return Features(pooled(layers), layers=layers)


def _heads(tensors: Mapping[str, Tensor], trunk: TrunkName, file: Path) -> list[Tensor]:
    """The weights of each layer's channels [1, C, 1, 1]. Raises ConfigError when they are another trunk's, or negative."""
    heads = []
    for layer, channels in enumerate(TAPS[trunk].channels):
        name = f"lin{layer}.model.1.weight"
        if name not in tensors or tensors[name].shape != (1, channels, 1, 1):
            given = list(tensors[name].shape) if name in tensors else "missing"
            raise ConfigError(
                f"lpips.heads: {name} of {file.name} is {given}", needed=f"[1, {channels}, 1, 1], the heads of {trunk}"
            )
        if not (tensors[name] >= 0).all():  # NaN is caught too
            raise ConfigError(f"lpips.heads: {name} of {file.name} is negative somewhere", needed="weights of 0 or more")
        heads.append(tensors[name].float())
    if len(tensors) != len(heads):
        raise ConfigError(f"lpips.heads: {file.name} has {len(tensors)} tensors", needed=f"{len(heads)}, the heads of {trunk}")
    return heads
