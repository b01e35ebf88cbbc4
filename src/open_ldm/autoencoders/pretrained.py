"""Autoencoders in diffusers' format, by hub name or local folder, loaded only from complete safetensors files."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer
from torch import Tensor

from open_ldm.autoencoders.channels import with_channels
from open_ldm.autoencoders.signed import check_signed
from open_ldm.core.config import Config
from open_ldm.core.device import DTYPES, multiplies_bf16
from open_ldm.core.errors import ConfigError
from open_ldm.core.extras import need
from open_ldm.core.files import relative_path_hint
from open_ldm.core.hashes import hash_content, hash_tensors
from open_ldm.core.later_settings import without_defaults
from open_ldm.core.model_folders import find_model_folder

_PIXELS_AT_ONCE = 2**20
"""16 pictures of 256 px, for which a published KL autoencoder needs about 3 GB."""
_BYTES_FOR_THEM = 16 << 30
"""Of a card's memory, most of which training needs. It counts whole, used or not, so that a card always encodes alike."""
_MOST_TIMES = 8

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
    """A pretrained autoencoder.

    Attributes:
        path: A folder with diffusers' config.json and weights, or a hub name.
        subfolder: The folder inside `path` with the autoencoder, where it is one part of several, e.g. `vae`.
        channels: Channels of the latents. It repeats what the autoencoder has, so that a model can be built and its parameters
            counted without loading the autoencoder; `factor` likewise.
        factor: Pixels per latent along each side.
        dtype: Of convolutions; parameters and latents stay float32. Its latents differ, so a cache of another one is another
            cache. Published autoencoders overflow fp16 unless they were made for it. `auto` is settled when a run or a cache
            begins (runs/autoencoder_format.py), and what it settled on stands in the run's recipe.
    """

    kind: str
    path: str
    subfolder: str = ""
    channels: int = Field(default=4, ge=1)
    factor: int = Field(default=8, ge=1)
    dtype: Literal["float32", "bf16", "fp16", "auto"] = "float32"

    @model_serializer(mode="wrap")
    def _written(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(self, written(self), ("dtype",))

    @property
    def location(self) -> str:
        """Path and subfolder, for people."""
        return f"{self.path}/{self.subfolder}" if self.subfolder else self.path


class Pretrained:
    """A frozen autoencoder of diffusers, with float32 parameters on `device`, channels-last but for float32 on a CPU.

    Where bf16 would be emulated it decodes in float32: pictures may be sampled on another device than the run's, and no latent
    depends on the decoder.

    An autoencoder of one channel also takes RGB pictures, by `with_channels`, and gives its grey as 3 equal channels.
    """

    raw_range: tuple[float, float] | None = None

    def __init__(self, network: Any, config: PretrainedConfig, levels: int, device: torch.device) -> None:
        actual = network.config.latent_channels, 2 ** (levels - 1)
        if actual != (config.channels, config.factor):
            raise ConfigError(
                f"autoencoder {config.location} has {actual[0]} channels and factor {actual[1]}",
                needed=f"{config.channels} channels and factor {config.factor}, as the recipe states",
                fix=f"autoencoder.channels={actual[0]} autoencoder.factor={actual[1]}",
            )
        if config.dtype == "auto":
            raise ConfigError(
                "autoencoder.dtype=auto is settled where a run or a cache begins",
                needed="a format by name here",
                fix="autoencoder.dtype=float32",
            )
        self.channels, self.factor = actual
        self.network = network.to(device).eval().requires_grad_(False)
        self.dtype, self._pixels_at_once = DTYPES[config.dtype], pixels_at_once(device)
        if device.type != "cpu" or self.dtype != torch.float32:  # there it would change the last bits of caches that exist
            self.network.to(memory_format=torch.channels_last)
        emulated = self.dtype == torch.bfloat16 and not multiplies_bf16(device)
        self._decoding = torch.float32 if emulated else self.dtype

    @property
    def picture_channels(self) -> int:
        """Number of channels of the pictures that the autoencoder was trained on."""
        return int(self.network.config.in_channels)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the encoder's weights, settings and dtype; not of the decoder, on which raw latents do not depend."""
        state = self.network.state_dict()
        weights = {name: state[name] for name in state if name.startswith(("encoder.", "quant_conv."))}
        settings = {name: value for name, value in self.network.config.items() if name in _OF_THE_ENCODER}
        dtype = [] if self.dtype == torch.float32 else [str(self.dtype)]  # hashes that exist know of no other
        return hash_content([type(self.network).__name__, hash_tensors(weights), settings, *dtype])

    @torch.no_grad()
    def encoded(self, images: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
        """Apply `encode` to images with the channels that the network reads, a few pictures at a time."""
        images = with_channels(images, self.picture_channels)
        with _autocast(images, self.dtype):
            return self._in_portions(encode, images, images.shape[2] * images.shape[3]).float()

    @torch.no_grad()
    def decode(self, raw_latents: Tensor) -> Tensor:
        """Decode raw latents to images in about [-1, 1]: [B, N, H, W] as the network gives them, with grey as RGB."""
        pixels_each = raw_latents.shape[2] * raw_latents.shape[3] * self.factor**2
        with _autocast(raw_latents, self._decoding):
            images = self._in_portions(lambda portion: self.network.decode(portion).sample, raw_latents, pixels_each).float()
        return with_channels(images, 3) if images.shape[1] == 1 else images

    def _in_portions(self, compute: Callable[[Tensor], Tensor], batch: Tensor, pixels_each: int) -> Tensor:
        """Return compute(batch), a few pictures at a time, so that memory does not grow with the batch."""
        return torch.cat([compute(portion) for portion in torch.split(batch, max(1, self._pixels_at_once // pixels_each))])


def _autocast(tensor: Tensor, dtype: torch.dtype) -> torch.autocast:
    return torch.autocast(tensor.device.type, dtype, enabled=dtype != torch.float32)


def pixels_at_once(device: torch.device) -> int:
    """Return how many pixels are encoded or decoded together: 16 pictures of 256 px, up to 128 on a card with room for them."""
    if device.type != "cuda":
        return _PIXELS_AT_ONCE
    times = torch.cuda.get_device_properties(device).total_memory // _BYTES_FOR_THEM
    return int(_PIXELS_AT_ONCE * min(_MOST_TIMES, max(1, times)))


def _lies_here(path: str) -> bool:
    """Whether `a/b`, which may be a hub name, is meant as a folder: `a` is one."""
    return "/" in path and Path(path).parent.is_dir()


def _require_folder_itself(path: Path, config: PretrainedConfig) -> None:
    """Refuse the folder of a training of an autoencoder in the place of the autoencoder in it."""
    inside = path / "autoencoder"
    if not config.subfolder and (inside / "config.json").is_file() and not (path / "config.json").exists():
        raise ConfigError(
            f"autoencoder {config.location!r} is the folder of a training",
            needed="the autoencoder that it made",
            fix=f"autoencoder.path={config.path}/autoencoder",
        )


def load(class_name: str, config: PretrainedConfig) -> Any:
    """Load an autoencoder of diffusers from a folder or the hub.

    Args:
        class_name: Name of diffusers' class.
        config: Its path.

    Raises:
        ConfigError: It cannot be loaded, or lacks weights.
    """
    kind = getattr(need("diffusers", extra="autoencoders"), class_name)
    path = find_model_folder(config.path)
    _require_folder_itself(Path(path), config)
    if not Path(path).is_dir() and (path.count("/") > 1 or path.startswith((".", "/", "~")) or _lies_here(path)):  # no hub name
        raise ConfigError(
            f"autoencoder {config.location!r} cannot be loaded (there is no such folder)",
            needed=f"autoencoder.path, a folder or hub name of a diffusers {class_name}{relative_path_hint(path)}",
            fix="train one with ldm autoencoder train, see docs/autoencoders.md",
        )
    check_signed(Path(path) / config.subfolder, config.location)
    try:
        network, info = kind.from_pretrained(
            path,
            subfolder=config.subfolder or None,
            use_safetensors=True,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        where = "folder" if Path(path).exists() else "folder or reachable hub name"
        raise ConfigError(
            f"autoencoder {config.location!r} cannot be loaded ({str(error).splitlines()[0][:120]})",
            needed=f"a {where} with a diffusers {class_name} in safetensors, by itself or in autoencoder.subfolder",
        ) from error
    # diffusers fills absent weights with random numbers and only warns.
    if missing := sorted(info["missing_keys"]):
        raise ConfigError(
            f"autoencoder {config.location!r} lacks {len(missing)} weights, {missing[0]} first",
            needed=f"a complete diffusers {class_name}",
            fix="copy or download it again",
        )
    return network
