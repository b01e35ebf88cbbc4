"""Training a KL autoencoder: the same trainer and loop as for denoisers, with images in and reconstructions compared."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from open_ldm.autoencoders.channels import with_channels
from open_ldm.autoencoders.network import KLNetwork
from open_ldm.autoencoders.reconstruction import ReconstructionConfig, reconstruction_losses
from open_ldm.core import seeds
from open_ldm.core.device import moved
from open_ldm.core.distributed import World
from open_ldm.core.pictures import to_images
from open_ldm.data.sample import Batch
from open_ldm.training.settings import ParallelConfig, TrainingConfig
from open_ldm.training.trainer import Trainer


@dataclass(frozen=True)
class ImageBatch:
    """Images to learn from.

    Attributes:
        positions: Of each image in the sample order; they key every draw.
        images: [B, N, H, W] in [-1, 1], with as many channels as the network reads.
        noise: Unit noise [B, C, h, w] of their posteriors, once it is drawn.
    """

    positions: tuple[int, ...]
    images: Tensor
    noise: Tensor | None = None


class ImageEncoder:
    """Makes images of `channels` channels on `device` from batches of picture files."""

    def __init__(self, channels: int, device: torch.device) -> None:
        self.channels, self.device = channels, device

    def encode(self, batch: Batch) -> ImageBatch:
        """Return the images of a batch, [B, N, H, W] in [-1, 1]."""
        return ImageBatch(batch.positions, with_channels(to_images(moved(batch.pixels, self.device)), self.channels))


class ReconstructionObjective(nn.Module):
    """The loss of an autoencoder; this module is the root of a training step, as `Objective` is for a diffusion model."""

    def __init__(self, model: KLNetwork, config: ReconstructionConfig) -> None:
        super().__init__()
        self.model, self.config = model, config

    def forward(self, images: Tensor, noise: Tensor) -> Tensor:
        """Return the reconstruction loss of each image.

        Args:
            images: [B, N, H, W] in [-1, 1].
            noise: Unit noise [B, C, h, w] in the shape of the latents: where in its posterior each image is taken.

        Returns:
            Losses [B].
        """
        return reconstruction_losses(self.config, self.model(images, noise), images)


class AutoencoderTrainer(Trainer[KLNetwork, ImageBatch]):
    """Trains a KL autoencoder on images of any number of channels."""

    def __init__(
        self,
        model: KLNetwork,
        loss: ReconstructionConfig,
        config: TrainingConfig,
        world: World,
        device: torch.device,
        parallel: ParallelConfig | None = None,
    ) -> None:
        scaled = model.compute_dtype == torch.float16
        super().__init__(model, ReconstructionObjective(model, loss), config, world, device, parallel, scaled=scaled)

    def prepared(self, batch: ImageBatch) -> ImageBatch:
        """Return a micro-batch with the noise of its posteriors drawn."""
        if batch.noise is not None:
            return batch
        noise = seeds.normal(self.config.seed, "posterior", batch.positions, self.state.model.latent_shape(batch.images))
        return replace(batch, noise=moved(noise, self.device))

    def losses(self, batch: ImageBatch) -> Tensor:
        """Return the reconstruction loss of each image [B] at one draw of its posterior."""
        losses: Tensor = self.root(batch.images, self.prepared(batch).noise)
        return losses
