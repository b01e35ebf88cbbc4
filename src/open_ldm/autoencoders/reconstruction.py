"""The loss of a KL autoencoder: pixels, edges at several scales, and a small divergence, without pretrained weights."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from open_ldm.autoencoders.network import Reconstruction
from open_ldm.core.config import Config


class ReconstructionConfig(Config):
    """The terms of the loss.

    Attributes:
        pixels: Mean |e| (l1) or e^2 (l2) of the error e.
        edges: Weight of the edge term.
        scales: Number of scales of the edge term.
        kl: Weight of the divergence in nats per value of a picture; published KL autoencoders use 1e-6 in this unit.
    """

    pixels: Literal["l1", "l2"] = "l1"
    edges: float = Field(default=0.5, ge=0)
    scales: int = Field(default=3, ge=1, le=8)
    kl: float = Field(default=1e-4, ge=0)

    def smallest_side(self) -> int:
        """Return the smallest side of a picture, in pixels, at which the coarsest scale still has neighbours to compare."""
        return int(2**self.scales) if self.edges else 1


def reconstruction_losses(config: ReconstructionConfig, found: Reconstruction, images: Tensor) -> Tensor:
    """Compute the loss of each picture: pixels + edges * E + kl * KL / (N H W).

    E = mean over scales s = 0, 1, ... of mean |d_x e_s| + mean |d_y e_s|, with e_0 = found - images, e_(s+1) = e_s averaged
    over 2x2 pixels, and d the difference of neighbours. Errors that move or blur an edge cost more than flat ones.

    Differs from the paper (LDM, Rombach et al. 2022): there is no perceptual (LPIPS) and no adversarial term, since both need
    further networks. Fine texture is therefore smoother than with published autoencoders.

    Args:
        config: The terms and their weights.
        found: Reconstructions and their divergence.
        images: The pictures [B, N, H, W] in [-1, 1].

    Returns:
        Losses [B].
    """
    error = found.images - images
    size = error.abs() if config.pixels == "l1" else error.square()
    losses = _per_picture(size) + config.kl * found.kl / error[0].numel()
    return losses + config.edges * _edges(error, config.scales) if config.edges else losses


def _edges(error: Tensor, scales: int) -> Tensor:
    total = error.new_zeros(len(error))
    for scale in range(scales):
        coarse = F.avg_pool2d(error, 2**scale) if scale else error
        total = total + _per_picture(coarse.diff(dim=3).abs()) + _per_picture(coarse.diff(dim=2).abs())
    return total / scales


def _per_picture(values: Tensor) -> Tensor:
    return values.flatten(1).mean(dim=1)
