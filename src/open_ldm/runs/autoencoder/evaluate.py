"""How well an autoencoder gives pictures back that it was not trained on."""

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
from open_ldm.training.autoencoder import ImageBatch

WORST_SHARE = 0.05


@dataclass(frozen=True)
class Reconstructions:
    """`given` and `found`: uint8 [B, N, H, W]; `psnr_db`: of each; `stats`: of the raw latents, per channel."""

    given: Tensor
    found: Tensor
    psnr_db: Tensor
    stats: LatentStats

    @property
    def mean_psnr_db(self) -> float:
        """Mean over the pictures."""
        return float(self.psnr_db.mean())

    @property
    def worst_psnr_db(self) -> float:
        """Mean over the worst 5 % of them, one at least."""
        return float(self.psnr_db[self.order[: max(1, math.ceil(WORST_SHARE * len(self.psnr_db)))]].mean())

    @property
    def channels_psnr_db(self) -> tuple[float, ...]:
        """Of each channel by itself, mean over the pictures: what the mean of all of them can hide."""
        channels = zip(self.found.unbind(1), self.given.unbind(1), strict=True)
        return tuple(float(psnr_db(found, given).mean()) for found, given in channels)

    @property
    def order(self) -> Tensor:
        """Indices of the pictures, the worst first."""
        return self.psnr_db.argsort()


def psnr_db(found: Tensor, given: Tensor) -> Tensor:
    """Peak signal to noise ratio of pixels uint8 [B, ...] in dB: 10 log10(255^2 / mean squared error), per picture.

    Equal pictures would have infinity; they get that of an error of one step in a single value.
    """
    error = (found.double() - given.double()).square().flatten(1)
    return 10 * torch.log10(255**2 / error.mean(dim=1).clamp(min=1 / error.shape[1]))


@torch.no_grad()
def reconstruct(network: KLNetwork, batches: Iterable[ImageBatch]) -> Reconstructions:
    """Encode each picture, take the posterior's mean, decode it, round to pixels, compare."""
    given, found, posteriors = [], [], []
    for batch in batches:
        posterior = network.encode(batch.images)
        given.append(to_pixels(batch.images).cpu())
        found.append(to_pixels(network.decode(posterior.mean)).cpu())
        posteriors.append(posterior)
    before, after = torch.cat(given), torch.cat(found)
    return Reconstructions(before, after, psnr_db(after, before), measure(posteriors))
