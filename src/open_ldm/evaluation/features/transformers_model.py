"""Image encoders of the transformers library: loading, and pictures as they expect them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from open_ldm.core.errors import ConfigError
from open_ldm.core.extras import need
from open_ldm.core.model_folders import code_allowed, content_hash, own_code_error
from open_ldm.core.plain_data import parse_json
from open_ldm.evaluation.features.base import ExtractorId, rounded, rounded_pixels
from open_ldm.evaluation.features.resize import antialiased, antialiased_rule, pillow_bicubic, pillow_rule
from open_ldm.evaluation.features.weights import find_folder

_PREPROCESSOR, _PROCESSOR = "preprocessor_config.json", "processor_config.json"
"""Of an image processor alone; of one with a tokenizer, as transformers 5 saves them together."""


@dataclass(frozen=True)
class Preparation:
    """How pictures reach an encoder: bicubic to `size_px`, then (x - mean) / std per colour, with x in [0, 1].

    `pillow`: the shorter side becomes `size_px` by Pillow and the middle is cut out, to the bit as transformers' own processors
    without torchvision do; otherwise both sides become `size_px` in floating point.
    """

    size_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    pillow: bool = False

    @property
    def rule(self) -> str:
        """For the extractor's id."""
        resize = pillow_rule(self.size_px) if self.pillow else antialiased_rule(self.size_px, "bicubic")
        return resize + f", mean {list(self.mean)}, std {list(self.std)}"

    def __call__(self, images: Tensor) -> Tensor:
        """Images float [-1, 1] [B, 3, H, W] -> [B, 3, size_px, size_px], rounded to 8 bits before the resize."""
        if self.pillow:
            resized = pillow_bicubic(rounded_pixels(images).cpu(), self.size_px).to(images.device) / 255
        else:
            resized = antialiased((rounded(images) + 1) / 2, self.size_px, "bicubic")
        mean, std = (torch.tensor(values, device=images.device).view(1, 3, 1, 1) for values in (self.mean, self.std))
        return (resized - mean) / std


@dataclass(frozen=True)
class LoadedEncoder:
    """A frozen model of transformers in float32, how its pictures are made, and what names it."""

    model: Any
    folder: Path
    preparation: Preparation
    id: ExtractorId


def load_encoder(path: str, class_name: str, size_px: int | None, kind: str, device: torch.device) -> LoadedEncoder:
    """Load a model by folder or hub name.

    Args:
        path: Of the folder, or the hub name.
        class_name: Of the model in transformers.
        size_px: Side of the pictures given to it; None is the side that its vision config states, prepared as its own
            processor does.
        kind: Of the extractor, for errors.
        device: Where it computes.

    Raises:
        ConfigError: The model or its preprocessor's numbers are missing.
    """
    transformers = need("transformers", extra="text")

    folder = find_folder(path, f"{kind}.path")
    if not list(folder.glob("*.safetensors")):
        raise ConfigError(f"{kind}.path={path!r} holds no weights", needed="model.safetensors")
    mean, std = _colours(folder, kind)
    try:
        model, found = getattr(transformers, class_name).from_pretrained(
            folder,
            use_safetensors=True,
            output_loading_info=True,
            dtype=torch.float32,
            trust_remote_code=code_allowed(path),
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        if (own := own_code_error(path, f"{kind}.path", error)) is not None:
            raise own from error
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise ConfigError(f"{kind}.path={path!r} cannot be loaded ({reason})", needed=f"a model for {class_name}") from error
    # transformers fills absent weights with random numbers and only warns.
    if absent := sorted(map(str, found["missing_keys"])) + sorted(map(str, found.get("mismatched_keys") or ())):
        raise ConfigError(
            f"{kind}.path={path!r} lacks {len(absent)} weights of {type(model).__name__}, {absent[0]} first",
            needed=f"a whole model for {class_name}",
        )
    model = model.to(device).eval().requires_grad_(False)
    name = f"{kind} {type(model).__name__} {Path(path).name}"
    preparation = Preparation(size_px or int(model.config.vision_config.image_size), mean, std, pillow=size_px is None)
    return LoadedEncoder(model, folder, preparation, ExtractorId(name, content_hash(folder), preparation.rule))


def _colours(folder: Path, kind: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation as the model's own preprocessor states them."""
    try:
        if (folder / _PREPROCESSOR).is_file():
            content = parse_json((folder / _PREPROCESSOR).read_text(encoding="utf-8"))
        else:
            content = parse_json((folder / _PROCESSOR).read_text(encoding="utf-8"))["image_processor"]
        return tuple(map(float, content["image_mean"])), tuple(map(float, content["image_std"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{kind}: {folder.name} does not say how pictures are prepared",
            needed=f"{_PREPROCESSOR} or {_PROCESSOR} with image_mean and image_std",
        ) from error
