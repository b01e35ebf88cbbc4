"""The quality of an autoencoder's reconstructions of pictures that it was not trained on."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from open_ldm.autoencoders import LatentStats
from open_ldm.autoencoders.latent_stats import measure
from open_ldm.autoencoders.network import KLNetwork
from open_ldm.core.pictures import to_pixels

WORST_SHARE = 0.05


@dataclass(frozen=True)
class Reconstructions:
    """Pictures and their reconstructions.

    Attributes:
        given: Pictures, uint8 [B, N, H, W].
        found: Their reconstructions, in the same form.
        psnr_db: PSNR of each picture [B], in dB.
        stats: Mean and deviation of the raw latents, per channel.
    """

    given: Tensor
    found: Tensor
    psnr_db: Tensor
    stats: LatentStats

    @property
    def mean_psnr_db(self) -> float:
        """Mean PSNR over the pictures, in dB."""
        return float(self.psnr_db.mean())

    @property
    def worst_psnr_db(self) -> float:
        """Mean PSNR over the worst 5 % of the pictures, at least one, in dB."""
        return float(self.psnr_db[self.order[: max(1, math.ceil(WORST_SHARE * len(self.psnr_db)))]].mean())

    @property
    def channels_psnr_db(self) -> tuple[float, ...]:
        """Mean PSNR of each channel by itself, in dB, since the mean over all channels can hide a bad one."""
        channels = zip(self.found.unbind(1), self.given.unbind(1), strict=True)
        return tuple(float(psnr_db(found, given).mean()) for found, given in channels)

    @property
    def order(self) -> Tensor:
        """Indices of the pictures, the worst first."""
        return self.psnr_db.argsort()


def psnr_db(found: Tensor, given: Tensor) -> Tensor:
    """Compute the peak signal-to-noise ratio of each picture: 10 log10(255^2 / mean squared error).

    Args:
        found: Reconstructions, pixels uint8 [B, ...].
        given: The pictures, in the same form.

    Returns:
        PSNR [B] in dB, float64. Equal pictures, whose PSNR is infinite, get that of an error of one step in a single value.
    """
    error = (found.double() - given.double()).square().flatten(1)
    return 10 * torch.log10(255**2 / error.mean(dim=1).clamp(min=1 / error.shape[1]))


@torch.no_grad()
def reconstruct(network: KLNetwork, batches: Iterable[Tensor]) -> Reconstructions:
    """Encode each picture, decode the mean of its posterior, round to pixels, and compare.

    Args:
        network: The autoencoder in evaluation mode.
        batches: Images [B, N, H, W] in [-1, 1] on its device.

    Returns:
        Pictures and reconstructions on the CPU.
    """
    given, found, posteriors = [], [], []
    for images in batches:
        posterior = network.encode(images)
        given.append(to_pixels(images).cpu())
        found.append(to_pixels(network.decode(posterior.mean)).cpu())
        posteriors.append(posterior)
    before, after = torch.cat(given), torch.cat(found)
    return Reconstructions(before, after, psnr_db(after, before), measure(posteriors))
