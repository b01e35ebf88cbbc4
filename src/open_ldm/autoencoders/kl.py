"""KL autoencoders in diffusers' format, by hub name or local folder."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from open_ldm.autoencoders.base import Posterior
from open_ldm.core.config import Config
from open_ldm.core.errors import ConfigError
from open_ldm.core.hashes import hash_of_content, hash_of_tensors

_OF_THE_ENCODER = (
    "act_fn",
    "block_out_channels",
    "down_block_types",
    "latent_channels",
    "layers_per_block",
    "mid_block_add_attention",
    "norm_num_groups",
    "use_quant_conv",
)
"""Settings of diffusers' AutoencoderKL that change what its encoder computes."""


class KLConfig(Config):
    """`path`: a folder with diffusers' config.json and weights, or a hub name such as stabilityai/sd-vae-ft-ema.

    `channels` and `factor` repeat what the autoencoder has, so that a recipe can be built and counted without loading it.
    """

    kind: Literal["kl"] = "kl"
    path: str
    channels: int = Field(default=4, ge=1)
    factor: int = Field(default=8, ge=1)


class KLAutoencoder:
    """diffusers' AutoencoderKL, frozen, in float32 on `device`."""

    raw_range: tuple[float, float] | None = None

    def __init__(self, config: KLConfig, device: torch.device) -> None:
        network = load(config.path)
        found = network.config.latent_channels, 2 ** (len(network.config.block_out_channels) - 1)
        if found != (config.channels, config.factor):
            raise ConfigError(
                f"autoencoder {config.path} has {found[0]} channels and factor {found[1]}",
                needed=f"{config.channels} channels and factor {config.factor}, as the recipe says",
                fix=f"autoencoder.channels={found[0]} autoencoder.factor={found[1]}",
            )
        self.channels, self.factor = found
        self.network = network.to(device).eval().requires_grad_(False)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the encoder half: another decoder leaves raw latents as they are."""
        state = self.network.state_dict()
        weights = {name: state[name] for name in state if name.startswith(("encoder.", "quant_conv."))}
        shape = {name: value for name, value in self.network.config.items() if name in _OF_THE_ENCODER}
        return hash_of_content(["kl", hash_of_tensors(weights), shape])

    @torch.no_grad()
    def encode(self, images: Tensor) -> Posterior:
        """Mean and standard deviation of the posterior."""
        posterior = self.network.encode(images).latent_dist
        return Posterior(posterior.mean, posterior.std)

    @torch.no_grad()
    def decode(self, raw_latents: Tensor) -> Tensor:
        """Images in about [-1, 1]."""
        images: Tensor = self.network.decode(raw_latents).sample
        return images


def load(path: str) -> Any:
    """diffusers' AutoencoderKL from a folder or the hub, safetensors only; one-line error when it cannot be had."""
    from diffusers import AutoencoderKL

    try:
        network, found = AutoencoderKL.from_pretrained(
            path, use_safetensors=True, low_cpu_mem_usage=False, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        where = "folder" if Path(path).exists() else "folder or reachable hub name"
        raise ConfigError(
            f"autoencoder.path={path!r} cannot be loaded ({str(error).splitlines()[0][:160]})",
            needed=f"a {where} holding a diffusers AutoencoderKL in safetensors",
        ) from error
    # diffusers fills absent weights with random numbers and only warns.
    if missing := sorted(found["missing_keys"]):
        raise ConfigError(
            f"autoencoder.path={path!r} lacks {len(missing)} weights, {missing[0]} first",
            needed="a whole diffusers AutoencoderKL",
            fix="copy or download it again",
        )
    return network
