"""Training a KL autoencoder: the same trainer and loop as for denoisers, with images in and reconstructions compared."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from open_ldm.autoencoders.channels import with_channels
from open_ldm.autoencoders.network import KLNetwork
from open_ldm.autoencoders.reconstruction import ReconstructionConfig, reconstruction_losses
from open_ldm.core import seeds
from open_ldm.core.distributed import World
from open_ldm.core.pictures import to_images
from open_ldm.data.sample import Batch
from open_ldm.training.settings import TrainingConfig
from open_ldm.training.trainer import Learner


@dataclass(frozen=True)
class ImageBatch:
    """`images` [B, N, H, W] in [-1, 1] with as many channels as the network reads; `positions` key every draw."""

    positions: tuple[int, ...]
    images: Tensor


class ImageEncoder:
    """Batches of picture files as images of `channels` channels on `device`."""

    def __init__(self, channels: int, device: torch.device) -> None:
        self.channels, self.device = channels, device

    def encode(self, batch: Batch) -> ImageBatch:
        """The images of a batch."""
        pixels = batch.pixels.to(self.device, non_blocking=True)
        return ImageBatch(batch.positions, with_channels(to_images(pixels), self.channels))


class AutoencoderTrainer(Learner[KLNetwork, ImageBatch]):
    """Trains a KL autoencoder on images of any number of channels."""

    def __init__(
        self,
        model: KLNetwork,
        loss: ReconstructionConfig,
        config: TrainingConfig,
        world: World,
        device: torch.device,
    ) -> None:
        super().__init__(model, config, world, device)
        self.loss = loss

    def losses(self, batch: ImageBatch) -> Tensor:
        """Reconstruction loss of each image at one draw of its posterior."""
        noise = seeds.normal(self.config.seed, "posterior", batch.positions, self.model.latent_shape(batch.images))
        found = self.model(batch.images, noise.to(self.device, non_blocking=True))
        return reconstruction_losses(self.loss, found, batch.images)
