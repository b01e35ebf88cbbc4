"""Identity: diffusion on the pixels themselves."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from open_ldm.autoencoders.base import Posterior
from open_ldm.core.config import Config


class IdentityConfig(Config):
    """No autoencoder: raw latents are the images."""

    kind: Literal["identity"] = "identity"

    @property
    def channels(self) -> int:
        """Of the latents: those of the pictures."""
        return IdentityAutoencoder.channels

    @property
    def factor(self) -> int:
        """Pixels per latent along one side."""
        return IdentityAutoencoder.factor


class IdentityAutoencoder:
    """Raw latents are the images, in [-1, 1]."""

    channels = 3
    factor = 1
    raw_range: tuple[float, float] | None = (-1.0, 1.0)
    fingerprint = "identity"

    def encode(self, images: Tensor) -> Posterior:
        """The images, exactly."""
        return Posterior(images)

    def decode(self, raw_latents: Tensor) -> Tensor:
        """The images, unclipped."""
        return raw_latents
