"""Autoencoders between images and raw latents. The union below lists them."""

from typing import Annotated

import torch
from pydantic import Field

from open_ldm.autoencoders.base import Autoencoder, Posterior
from open_ldm.autoencoders.identity import IdentityAutoencoder, IdentityConfig
from open_ldm.autoencoders.kl import KLAutoencoder, KLConfig
from open_ldm.autoencoders.latent_stats import GivenStats, LatentStats, LatentStatsConfig, MeasuredStats
from open_ldm.autoencoders.tiny import TinyAutoencoder, TinyConfig

AutoencoderConfig = Annotated[IdentityConfig | KLConfig | TinyConfig, Field(discriminator="kind")]


def build_autoencoder(config: AutoencoderConfig, device: torch.device) -> Autoencoder:
    """Build the autoencoder that a config describes, loaded and frozen.

    Raises:
        ConfigError: Its weights cannot be loaded, or do not have the channels and the factor that the config states.
    """
    match config:
        case IdentityConfig():
            return IdentityAutoencoder(config.channels)
        case KLConfig():
            return KLAutoencoder(config, device)
        case TinyConfig():
            return TinyAutoencoder(config, device)


def latent_shape(config: AutoencoderConfig, height_px: int, width_px: int) -> tuple[int, int, int]:
    """Return the (channels, height, width) of the latents of a picture, without loading anything."""
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
    "TinyConfig",
    "build_autoencoder",
    "latent_shape",
]
