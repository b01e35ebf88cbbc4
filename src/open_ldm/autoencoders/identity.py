"""Identity: diffusion on the pixels themselves."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from open_ldm.autoencoders.base import Posterior
from open_ldm.core.config import Config


class IdentityConfig(Config):
    """No autoencoder: raw latents are the images. `channels` is the number of channels of the pictures."""

    kind: Literal["identity"] = "identity"
    trained_on: ClassVar[str] = "pixels"
    channels: int = Field(default=3, ge=1)

    @property
    def factor(self) -> int:
        """Pixels per latent along each side."""
        return IdentityAutoencoder.factor


class IdentityAutoencoder:
    """Raw latents are the images, in [-1, 1]."""

    factor = 1
    raw_range: tuple[float, float] | None = (-1.0, 1.0)
    fingerprint = "identity"

    def __init__(self, channels: int = 3) -> None:
        self.channels = channels

    def encode(self, images: Tensor) -> Posterior:
        """Return the images, exactly."""
        return Posterior(images)

    def decode(self, raw_latents: Tensor) -> Tensor:
        """Return the images, unclipped."""
        return raw_latents
