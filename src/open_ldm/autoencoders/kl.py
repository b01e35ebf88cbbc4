"""KL autoencoders in diffusers' format, by hub name or local folder."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from open_ldm.autoencoders.base import Posterior
from open_ldm.autoencoders.pretrained import Pretrained, PretrainedConfig, load


class KLConfig(PretrainedConfig):
    """An AutoencoderKL: RUN/autoencoder of `ldm autoencoder train`, or a published one such as stabilityai/sd-vae-ft-ema."""

    kind: Literal["kl"] = "kl"
    trained_on: ClassVar[str] = "a sample of the posterior, drawn anew at every position"


class KLAutoencoder(Pretrained):
    """diffusers' AutoencoderKL."""

    def __init__(self, config: KLConfig, device: torch.device) -> None:
        network = load("AutoencoderKL", config)
        super().__init__(network, config, len(network.config.block_out_channels), device)

    def encode(self, images: Tensor) -> Posterior:
        """Encode images as the mean and standard deviation of the posterior."""
        mean, std = self.encoded(images, self._moments).chunk(2, dim=1)
        return Posterior(mean, std)

    def _moments(self, images: Tensor) -> Tensor:
        posterior = self.network.encode(images).latent_dist
        return torch.cat([posterior.mean, posterior.std], dim=1)
