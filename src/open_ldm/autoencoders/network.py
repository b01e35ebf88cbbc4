"""The network of a KL autoencoder that is trained here: a small AutoencoderKL of diffusers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from open_ldm.autoencoders.base import Posterior
from open_ldm.core import seeds
from open_ldm.core.config import Config
from open_ldm.core.extras import need

_INITIAL_LOG_VARIANCE = -6.0

if TYPE_CHECKING:
    from diffusers import AutoencoderKL


class NetworkConfig(Config):
    """The shape of the network.

    Attributes:
        in_channels: Channels of a picture (1: grey, 3: RGB).
        latent_channels: Channels of the latents.
        widths: Channels of the network at each resolution, that of the picture first. Every further resolution halves height
            and width, so three give factor 4 and four give factor 8.
        blocks: Residual blocks at each resolution; the decoder has one more.
        groups: Groups of the group norms; they must divide every width.
        attention: Use one self-attention layer at the lowest resolution of each half.
    """

    in_channels: PositiveInt = 3
    latent_channels: PositiveInt = 4
    widths: tuple[PositiveInt, ...] = Field(default=(16, 32, 64, 128), min_length=1)
    blocks: PositiveInt = 1
    groups: PositiveInt = 8
    attention: bool = False

    @property
    def factor(self) -> int:
        """Pixels per latent along each side."""
        return int(2 ** (len(self.widths) - 1))

    @model_validator(mode="after")
    def _groups_divide_the_widths(self) -> NetworkConfig:
        if wrong := [width for width in self.widths if width % self.groups]:
            raise ValueError(f"widths {wrong} are not multiples of groups={self.groups}")
        return self


@dataclass(frozen=True)
class DiagonalPosterior(Posterior):
    """A posterior that always has a deviation."""

    std: Tensor


@dataclass(frozen=True)
class Reconstruction:
    """Reconstructed `images` [B, N, H, W] in about [-1, 1], and `kl` [B], each posterior's divergence from N(0, I) in nats."""

    images: Tensor
    kl: Tensor


class KLNetwork(nn.Module):
    """A KL autoencoder: images, posterior N(mean, std^2), one sample of raw latents, images (Kingma & Welling 2014; LDM, 2022).

    `compute_dtype` is the dtype of convolutions, by autocast; parameters, posterior and losses stay float32.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.kl = _autoencoder_kl(config)
        self.compute_dtype = torch.float32

    def forward(self, images: Tensor, noise: Tensor) -> Reconstruction:
        """Reconstruct images [B, N, H, W] in [-1, 1], with unit noise [B, C, H / factor, W / factor]."""
        posterior = self.encode(images)
        raw_latents = posterior.mean + posterior.std * noise  # [B, C, H / factor, W / factor]
        return Reconstruction(self.decode(raw_latents), divergence(posterior))

    def encode(self, images: Tensor) -> DiagonalPosterior:
        """Encode images as the posterior over raw latents; its log variance is clamped to [-30, 20], as in diffusers."""
        with self._autocast(images):
            moments = self.kl.encode(images).latent_dist.parameters
        mean, log_variance = moments.float().chunk(2, dim=1)
        return DiagonalPosterior(mean, (0.5 * log_variance.clamp(-30, 20)).exp())

    def decode(self, raw_latents: Tensor) -> Tensor:
        """Decode raw latents to images in about [-1, 1]."""
        with self._autocast(raw_latents):
            images: Tensor = self.kl.decode(raw_latents).sample
        return images.float()

    def latent_shape(self, images: Tensor) -> tuple[int, int, int]:
        """Return the shape (C, h, w) of the raw latents of a batch of images."""
        return self.config.latent_channels, images.shape[2] // self.config.factor, images.shape[3] // self.config.factor

    def _autocast(self, tensor: Tensor) -> torch.autocast:
        return torch.autocast(tensor.device.type, self.compute_dtype, enabled=self.compute_dtype != torch.float32)


def divergence(posterior: DiagonalPosterior) -> Tensor:
    """Compute KL(N(mean, std^2) || N(0, I)) of each picture [B] in nats: sum of (mean^2 + std^2 - 1 - ln std^2) / 2."""
    variance = posterior.std**2
    return (posterior.mean**2 + variance - 1 - variance.log()).flatten(1).sum(dim=1) / 2


def build_network(config: NetworkConfig, seed: int) -> KLNetwork:
    """Build a network whose initial weights are a function of `seed` alone; torch's global generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.key(seed, "initial weights"))
        network = KLNetwork(config)
        _initialise(network.kl)
    return network


def _initialise(kl: AutoencoderKL) -> None:
    """Initialise the network so that a picture passes nearly undistorted.

    With torch's defaults every convolution shrinks the signal by sqrt(3), the residual blocks drown what remains, and the
    posterior's noise is as strong as its mean.
    """
    for name, module in kl.named_modules():
        if isinstance(module, nn.Conv2d):
            if name.endswith(".conv2"):  # the last one of a residual block
                nn.init.zeros_(module.weight)
            else:
                nn.init.orthogonal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    channels = kl.config.latent_channels
    with torch.no_grad():
        kl.quant_conv.weight[channels:] *= 0.1
        kl.quant_conv.bias[channels:] = _INITIAL_LOG_VARIANCE


def _autoencoder_kl(config: NetworkConfig) -> AutoencoderKL:
    levels = len(config.widths)
    settings: dict[str, Any] = {
        "in_channels": config.in_channels,
        "out_channels": config.in_channels,
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "block_out_channels": config.widths,
        "layers_per_block": config.blocks,
        "latent_channels": config.latent_channels,
        "norm_num_groups": config.groups,
        "mid_block_add_attention": config.attention,
    }
    network: AutoencoderKL = need("diffusers", extra="autoencoders").AutoencoderKL(**settings)
    return network
