"""Autoencoders in diffusers' format, by hub name or local folder: safetensors only, and whole."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from open_ldm.autoencoders.channels import with_channels
from open_ldm.core.config import Config
from open_ldm.core.errors import ConfigError
from open_ldm.core.extras import need
from open_ldm.core.files import taken_from
from open_ldm.core.hashes import hash_of_content, hash_of_tensors
from open_ldm.core.model_folders import located

_PIXELS_AT_ONCE = 2**20  # 16 pictures of 256 px: a published KL autoencoder then needs about 3 GB

_OF_THE_ENCODER = (
    "act_fn",
    "block_out_channels",
    "down_block_types",
    "encoder_block_out_channels",
    "in_channels",
    "latent_channels",
    "layers_per_block",
    "mid_block_add_attention",
    "norm_num_groups",
    "num_encoder_blocks",
    "use_quant_conv",
)
"""Settings of diffusers' autoencoders that change what their encoders compute; a later diffusers may add others."""


class PretrainedConfig(Config):
    """`path`: a folder with diffusers' config.json and weights, or a hub name. `subfolder`: of either, where the autoencoder
    is one part of several (`vae`).

    `channels` (of the latents) and `factor` repeat what the autoencoder has, so that a recipe can be built and counted
    without loading it.
    """

    kind: str
    path: str
    subfolder: str = ""
    channels: int = Field(default=4, ge=1)
    factor: int = Field(default=8, ge=1)

    @property
    def place(self) -> str:
        """Path and subfolder, for people."""
        return f"{self.path}/{self.subfolder}" if self.subfolder else self.path


class Pretrained:
    """An autoencoder of diffusers, frozen, in float32 on `device`.

    One that reads a single channel takes pictures of 3 by `with_channels`, and gives its grey as 3 equal channels.
    """

    raw_range: tuple[float, float] | None = None

    def __init__(self, network: Any, config: PretrainedConfig, levels: int, device: torch.device) -> None:
        found = network.config.latent_channels, 2 ** (levels - 1)
        if found != (config.channels, config.factor):
            raise ConfigError(
                f"autoencoder {config.place} has {found[0]} channels and factor {found[1]}",
                needed=f"{config.channels} channels and factor {config.factor}, as the recipe says",
                fix=f"autoencoder.channels={found[0]} autoencoder.factor={found[1]}",
            )
        self.channels, self.factor = found
        self.network = network.to(device).eval().requires_grad_(False)

    @property
    def picture_channels(self) -> int:
        """Of the pictures it was trained on."""
        return int(self.network.config.in_channels)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the encoder's weights and settings: another decoder leaves raw latents as they are."""
        state = self.network.state_dict()
        weights = {name: state[name] for name in state if name.startswith(("encoder.", "quant_conv."))}
        settings = {name: value for name, value in self.network.config.items() if name in _OF_THE_ENCODER}
        return hash_of_content([type(self.network).__name__, hash_of_tensors(weights), settings])

    @torch.no_grad()
    def encoded(self, images: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
        """`encode` of images with the channels the network reads, a few pictures at a time."""
        images = with_channels(images, self.picture_channels)
        return _in_portions(encode, images, images.shape[2] * images.shape[3])

    @torch.no_grad()
    def decode(self, raw_latents: Tensor) -> Tensor:
        """Images in about [-1, 1], [B, 3, H, W], or with as many channels as the network gives, if not 1."""
        pixels_each = raw_latents.shape[2] * raw_latents.shape[3] * self.factor**2
        images = _in_portions(lambda portion: self.network.decode(portion).sample, raw_latents, pixels_each)
        return with_channels(images, 3) if images.shape[1] == 1 else images


def _in_portions(compute: Callable[[Tensor], Tensor], batch: Tensor, pixels_each: int) -> Tensor:
    """compute(batch), a few pictures at a time, so that memory does not grow with the batch."""
    return torch.cat([compute(portion) for portion in torch.split(batch, max(1, _PIXELS_AT_ONCE // pixels_each))])


def load(class_name: str, config: PretrainedConfig) -> Any:
    """diffusers' class of that name from a folder or the hub. One-line ConfigError when it cannot be had."""
    kind = getattr(need("diffusers", extra="autoencoders"), class_name)
    place = located(config.path)
    if not Path(place).is_dir() and (place.count("/") > 1 or place.startswith((".", "/", "~"))):  # no name of a hub
        raise ConfigError(
            f"autoencoder {config.place!r} cannot be loaded (there is no such folder)",
            needed=f"autoencoder.path, a folder or hub name of a diffusers {class_name}{taken_from(place)}",
            fix="train one with ldm autoencoder train, see docs/autoencoders.md",
        )
    try:
        network, found = kind.from_pretrained(
            place,
            subfolder=config.subfolder or None,
            use_safetensors=True,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        where = "folder" if Path(place).exists() else "folder or reachable hub name"
        raise ConfigError(
            f"autoencoder {config.place!r} cannot be loaded ({str(error).splitlines()[0][:160]})",
            needed=f"a {where} holding a diffusers {class_name} in safetensors, by itself or in autoencoder.subfolder",
        ) from error
    # diffusers fills absent weights with random numbers and only warns.
    if missing := sorted(found["missing_keys"]):
        raise ConfigError(
            f"autoencoder {config.place!r} lacks {len(missing)} weights, {missing[0]} first",
            needed=f"a whole diffusers {class_name}",
            fix="copy or download it again",
        )
    return network
