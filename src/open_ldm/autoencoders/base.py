"""Pixels <-> raw latents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Posterior:
    """Raw latents as a distribution: `mean` [B, C, h, w] and `std` likewise, None for an exact encoder."""

    mean: Tensor
    std: Tensor | None = None


class Autoencoder(Protocol):
    """images float [-1, 1] [B, N, H, W] <-> raw latents [B, C, H / factor, W / factor]. Frozen while a denoiser trains.

    N is the number of channels of the data's pictures. An autoencoder of one channel takes RGB too, and gives grey as RGB.
    """

    channels: int
    factor: int
    raw_range: tuple[float, float] | None
    """Bounds of raw latents where there are any (pixels); sampling keeps its estimates within them."""

    @property
    def fingerprint(self) -> str:
        """Hash of all that raw latents depend on: weights and shape of the encoder, not where they lie."""

    def encode(self, images: Tensor) -> Posterior:
        """Posterior over raw latents."""

    def decode(self, raw_latents: Tensor) -> Tensor:
        """Images in about [-1, 1]."""
