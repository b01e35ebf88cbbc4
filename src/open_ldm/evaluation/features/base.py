"""What turns pictures into numbers: one contract for every extractor, and the rules all of them share."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from open_ldm.core.errors import DataError
from open_ldm.core.pictures import to_images, to_pixels

ROUNDING = "8 bits: round(127.5 (x + 1)), clamped"
"""Pictures are measured as a PNG file would hold them."""


@dataclass(frozen=True)
class ExtractorId:
    """Everything that decides which features a picture gets.

    `weights`: SHA-256 of the file(s), or what stands in for them. `resize`: the rule that brings a picture to the network.
    """

    name: str
    weights: str
    resize: str
    rounding: str = ROUNDING

    def to_json(self) -> dict[str, str]:
        """Plain data with the same names."""
        return asdict(self)


@dataclass(frozen=True)
class Features:
    """Features of B pictures: `vectors` float32 [B, D]; `probabilities` [B, K] of an extractor that is a classifier;
    `layers`: maps [B, C, h, w] whose squared distance, averaged over positions and summed over layers, is a perceptual one."""

    vectors: Tensor
    probabilities: Tensor | None = None
    layers: tuple[Tensor, ...] = ()

    def cpu(self) -> Features:
        """The same on the CPU, in float32."""
        probabilities = None if self.probabilities is None else self.probabilities.float().cpu()
        return Features(self.vectors.float().cpu(), probabilities, tuple(layer.float().cpu() for layer in self.layers))


class FeatureExtractor(Protocol):
    """images float [-1, 1] [B, 3, H, W] -> features. Frozen; rounds pictures to 8 bits before it reads them.

    One grey channel is seen as three equal ones. A `classifier` fitted on pictures of other channels reads just as many.
    """

    id: ExtractorId
    dim: int
    """Length D of a feature vector."""

    def extract(self, images: Tensor) -> Features:
        """Features of a batch; picture i's do not depend on the others beyond rounding."""


@runtime_checkable
class ReadsCaptions(Protocol):
    """An extractor that can say how well pictures and captions agree."""

    def caption_scores(self, features: Features, captions: tuple[str, ...]) -> Tensor:
        """Scores [B] of features with one caption each."""


def as_seen(images: Tensor) -> Tensor:
    """Pictures [B, N, H, W] with the channels that features are taken of: one is repeated to three, others stay."""
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


def rounded_pixels(images: Tensor, channels: int | None = 3) -> Tensor:
    """Images [B, `channels`, H, W] (None: any number) -> uint8 pixels, one grey channel repeated to three.

    Raises DataError for another shape, and for NaN, which would turn black.
    """
    if images.ndim != 4 or not images.is_floating_point():
        given = f"{str(images.dtype).removeprefix('torch.')} {list(images.shape)}"
        raise DataError(f"pictures are {given}", needed="images float [B, channels, H, W] in [-1, 1]")
    images = as_seen(images)
    if channels not in (None, images.shape[1]):
        raise DataError(
            f"the pictures have {images.shape[1]} channels, the extractor reads {channels}",
            needed="an extractor fitted on labelled pictures of as many channels",
            fix="ldm evaluate fit-features RECIPE --out FOLDER, then --extractor FOLDER",
        )
    if not torch.isfinite(images.sum(dtype=torch.float32)):  # a sum costs a tenth of looking at every number
        good = torch.isfinite(images).flatten(1).all(dim=1)
        if not good.all():
            row = int((~good).nonzero()[0])
            raise DataError(
                f"picture {row} of a batch holds NaN or infinity",
                fix="check the model that sampled it, or the file it was read from",
            )
    return to_pixels(images)


def rounded(images: Tensor, channels: int = 3) -> Tensor:
    """Images as 8-bit pixels would show them, float32 in [-1, 1]."""
    return to_images(rounded_pixels(images, channels))
