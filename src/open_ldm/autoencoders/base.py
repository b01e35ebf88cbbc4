"""The interface of autoencoders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Posterior:
    """Raw latents as a distribution: `mean` [B, C, h, w], and `std` of the same shape, None for an exact encoder."""

    mean: Tensor
    std: Tensor | None = None


class Autoencoder(Protocol):
    """An autoencoder between images [B, N, H, W] in [-1, 1] and raw latents [B, C, H / factor, W / factor].

    It is frozen while a denoiser trains. N is the number of channels of the data's pictures. An autoencoder of one channel
    also takes RGB, and gives its grey as RGB.
    """

    channels: int
    factor: int
    raw_range: tuple[float, float] | None
    """Bounds of raw latents where there are any (pixels); sampling clamps its estimates to them."""

    @property
    def fingerprint(self) -> str:
        """Hash of all that raw latents depend on: weights and settings of the encoder, but not its path."""

    def encode(self, images: Tensor) -> Posterior:
        """Encode images [B, N, H, W] in [-1, 1] as the posterior over raw latents."""

    def decode(self, raw_latents: Tensor) -> Tensor:
        """Decode raw latents to images [B, N, H, W] in about [-1, 1]."""
