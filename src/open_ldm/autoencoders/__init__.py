"""Autoencoders: pixels <-> raw latents. This union lists them."""

from typing import Annotated

import torch
from pydantic import Field

from open_ldm.autoencoders.base import Autoencoder, Posterior
from open_ldm.autoencoders.identity import IdentityAutoencoder, IdentityConfig
from open_ldm.autoencoders.kl import KLAutoencoder, KLConfig
from open_ldm.autoencoders.latent_stats import GivenStats, LatentStats, LatentStatsConfig, MeasuredStats

AutoencoderConfig = Annotated[IdentityConfig | KLConfig, Field(discriminator="kind")]


def build_autoencoder(config: IdentityConfig | KLConfig, device: torch.device) -> Autoencoder:
    """The autoencoder a config describes, loaded and frozen."""
    match config:
        case IdentityConfig():
            return IdentityAutoencoder()
        case KLConfig():
            return KLAutoencoder(config, device)


def latent_shape(config: IdentityConfig | KLConfig, height_px: int, width_px: int) -> tuple[int, int, int]:
    """(channels, height, width) of the latents of a picture, without loading anything."""
    match config:
        case IdentityConfig():
            return IdentityAutoencoder.channels, height_px, width_px
        case KLConfig():
            return config.channels, height_px // config.factor, width_px // config.factor


__all__ = [
    "Autoencoder",
    "AutoencoderConfig",
    "GivenStats",
    "IdentityConfig",
    "KLConfig",
    "LatentStats",
    "LatentStatsConfig",
    "MeasuredStats",
    "Posterior",
    "build_autoencoder",
    "latent_shape",
]
