"""Inception v3 as FID knows it: the network of 2015-12-05, ported from TensorFlow."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from open_ldm.core.config import Config
from open_ldm.core.shapes_only import shapes_only
from open_ldm.evaluation.features.base import ExtractorId, Features, rounded_pixels
from open_ldm.evaluation.features.inception_blocks import (
    NormedConv,
    block_a,
    block_b,
    block_c,
    block_d,
    block_e,
    largest_neighbour,
    mean_of_neighbours,
)
from open_ldm.evaluation.features.resize import TENSORFLOW, tensorflow_bilinear
from open_ldm.evaluation.features.weights import find_file, hash_of, load_exactly
from open_ldm.interop.files import read_weights

SIZE_PX = 299
CLASSES = 1008
POOL, SPATIAL = "inception-2015-12-05 pool", "inception-2015-12-05 spatial"
"""Names of the two extractors."""
SPATIAL_CHANNELS, SPATIAL_SIDE = 7, 17


class InceptionConfig(Config):
    """`path`: the usual file (pt_inception-2015-12-05, as pytorch-fid and torch-fidelity publish it) in .pth or .safetensors,
    or OWNER/NAME/FILE on the hub. `layer`: pool for FID's features, spatial for those of sFID."""

    kind: Literal["inception"] = "inception"
    path: str
    layer: Literal["pool", "spatial"] = "pool"

    def build(self, device: torch.device) -> InceptionExtractor:
        """The extractor, loaded and frozen. Raises ConfigError for a missing or wrong file."""
        return InceptionExtractor(self, device)


class InceptionV3(nn.Module):
    """Szegedy et al. 2015 (arXiv 1512.00567), Table 1, without the auxiliary classifier, with the names of the published file.

    Differs from the paper, as the published network does: means at the edge count only what is there, the last block pools by
    maximum, and there are 1008 classes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = NormedConv(3, 32, (3, 3), stride=2)
        self.Conv2d_2a_3x3 = NormedConv(32, 32, (3, 3))
        self.Conv2d_2b_3x3 = NormedConv(32, 64, (3, 3), padding=(1, 1))
        self.Conv2d_3b_1x1 = NormedConv(64, 80, (1, 1))
        self.Conv2d_4a_3x3 = NormedConv(80, 192, (3, 3))
        self.Mixed_5b = block_a(192, pool_channels=32)
        self.Mixed_5c = block_a(256, pool_channels=64)
        self.Mixed_5d = block_a(288, pool_channels=64)
        self.Mixed_6a = block_b(288)
        self.Mixed_6b = block_c(768, width=128)
        self.Mixed_6c = block_c(768, width=160)
        self.Mixed_6d = block_c(768, width=160)
        self.Mixed_6e = block_c(768, width=192)
        self.Mixed_7a = block_d(768)
        self.Mixed_7b = block_e(1280, mean_of_neighbours)
        self.Mixed_7c = block_e(2048, largest_neighbour)
        self.fc = nn.Linear(2048, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Pixels scaled to about [-1, 1] [B, 3, 299, 299] -> pooled features [B, 2048]."""
        x = self.Mixed_6e(self.Mixed_6d(self.middle(x)))  # [B, 768, 17, 17]
        x = self.Mixed_7a(x)  # [B, 1280, 8, 8]
        x = self.Mixed_7c(self.Mixed_7b(x))  # [B, 2048, 8, 8]
        return x.mean(dim=(2, 3))  # [B, 2048]

    def spatial(self, x: Tensor) -> Tensor:
        """Pixels as in `forward` -> the first 7 channels of Mixed_6d's 1 x 1 branch, position by position, [B, 2023].

        That is mixed_6/conv:0 of the TensorFlow graph, whose maps have their channels last.
        """
        branch: Tensor = self.Mixed_6d.get_submodule("branch1x1")(self.middle(x))  # [B, 192, 17, 17]
        return branch[:, :SPATIAL_CHANNELS].permute(0, 2, 3, 1).flatten(1)  # [B, 17 * 17 * 7]

    def middle(self, x: Tensor) -> Tensor:
        """Pixels as in `forward` -> the map after Mixed_6c [B, 768, 17, 17]."""
        x = self.Conv2d_1a_3x3(x)  # [B, 32, 149, 149]
        x = self.Conv2d_2a_3x3(x)  # [B, 32, 147, 147]
        x = self.Conv2d_2b_3x3(x)  # [B, 64, 147, 147]
        x = F.max_pool2d(x, 3, stride=2)  # [B, 64, 73, 73]
        x = self.Conv2d_3b_1x1(x)  # [B, 80, 73, 73]
        x = self.Conv2d_4a_3x3(x)  # [B, 192, 71, 71]
        x = F.max_pool2d(x, 3, stride=2)  # [B, 192, 35, 35]
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))  # [B, 288, 35, 35]
        x = self.Mixed_6a(x)  # [B, 768, 17, 17]
        mapped: Tensor = self.Mixed_6c(self.Mixed_6b(x))  # [B, 768, 17, 17]
        return mapped


class InceptionExtractor:
    """FID's features [B, 2048] and class probabilities [B, 1008]; or sFID's features [B, 2023] alone.

    Pixels p are enlarged to 299 px as TensorFlow 1 does, then (p - 128) / 128. Probabilities leave out the last layer's bias,
    as the code that published the inception score does.
    """

    def __init__(self, config: InceptionConfig, device: torch.device) -> None:
        self.spatial = config.layer == "spatial"
        self.dim = SPATIAL_CHANNELS * SPATIAL_SIDE**2 if self.spatial else 2048
        file = find_file(config.path, "inception.path")
        with shapes_only():
            network = InceptionV3()
        network.to_empty(device="cpu")
        load_exactly(network, read_weights(file).state, file)
        self.network = network.to(device).eval().requires_grad_(False)
        self.device = device
        self.id = ExtractorId(
            name=SPATIAL if self.spatial else POOL,
            weights=hash_of([file]),
            resize=TENSORFLOW.format(SIZE_PX) + ", (p - 128) / 128",
        )

    @torch.no_grad()
    def extract(self, images: Tensor) -> Features:
        """Images float [-1, 1] [B, 3, H, W] of any size -> features."""
        pixels = rounded_pixels(images.to(self.device)).float()
        seen = (tensorflow_bilinear(pixels, SIZE_PX) - 128) / 128
        if self.spatial:
            return Features(self.network.spatial(seen))
        vectors = self.network(seen)
        return Features(vectors, (vectors @ self.network.fc.weight.T).softmax(dim=1))
