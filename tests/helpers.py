"""Small models, batches and random weights that the tests of several floors share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from open_ldm.conditioning import ConditioningConfig, ConditionInputs
from open_ldm.conditioning.semantic import ClassSemantic, TextSemantic, noise_shape
from open_ldm.controls import ViewShape
from open_ldm.core import seeds
from open_ldm.data.sample import Batch, TransformRecord, View, collate
from open_ldm.denoisers import DenoiserConfig, DiTConfig, MDTv2Config, MMDiTConfig, PixArtConfig, UNetConfig
from open_ldm.model.diffusion import DiffusionModel, build_model
from open_ldm.model.spec import DataFacts, ModelSpec, ProcessConfig
from open_ldm.text.tokens import TextTokens
from open_ldm.text.words import WordsConfig

CLASSES = ("cat", "dog", "eel")
WORDS = ("a", "blue", "circle", "left", "red", "square")
SMALL_WORDS = WordsConfig(length=6, width=16)
VIEW = ViewShape(height_px=8, width_px=8, typical_original_px=64)
SMALL = {"size": "XS", "depth": 2, "width": 32, "heads": 2, "patch": 2}
SMALL_DIT = DiTConfig(**SMALL)
SMALL_MMDIT = MMDiTConfig(**SMALL)
SMALL_UNET = {"size": "XS", "model_channels": 8, "multipliers": (1, 2), "attention_factors": (2,), "heads": 2, "groups": 2}
DENOISERS = {
    "dit": SMALL_DIT,
    "mmdit": SMALL_MMDIT,
    "mmdit_rms": MMDiTConfig(**SMALL, qk_norm="rms"),
    "pixart": PixArtConfig(**SMALL),
    "mdtv2": MDTv2Config(**{**SMALL, "depth": 3}, decode_layers=1),
    "unet": UNetConfig(**SMALL_UNET),
    "unet_scale_shift": UNetConfig(**SMALL_UNET, adaptive_norm="scale_shift"),
}


KNOWN: dict[str, Any] = {
    "facts": DataFacts(channels=1, view=ViewShape(8, 8, 64), latent_size=(8, 8)).to_json(),
    "latent_stats": {"mean": [0.1], "std": [1.0]},
    "fingerprint": {},
}
"""What a manifest must say besides recipe and counters."""


def randomise(module: nn.Module, seed: int = 0) -> Any:
    """Add normal noise to every parameter that starts as one constant, so that no part of a network is silent."""
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.min() == parameter.max():
                scale = 0.1 if parameter.ndim == 1 else parameter.shape[-1] ** -0.5
                parameter.add_(torch.randn(parameter.shape, generator=source) * scale)
    return module


def randn(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers of a seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def record(**changes: Any) -> TransformRecord:
    """A picture of 96 x 64 px, shrunk to 12 x 8 and cut to 8 x 8."""
    content: dict[str, Any] = {
        "original_height_px": 64,
        "original_width_px": 96,
        "scaled_height_px": 8,
        "scaled_width_px": 12,
        "crop_top_px": 0,
        "crop_left_px": 4,
        "height_px": 8,
        "width_px": 8,
        "flip": False,
        "saturation": 20.0,
        "brightness": 45.0,
        "jpeg_quality": 75.0,
    }
    return TransformRecord(**{**content, **changes})


def batch_at(positions: Sequence[int]) -> Batch:
    """Views of 8 x 8 px in which everything follows from the position."""
    return collate([_view(position) for position in positions])


def _view(position: int) -> View:
    pixels = (seeds.uniform(7, "pixels", [position], (3, 8, 8))[0] * 256).to(torch.uint8)
    made = record(original_height_px=32 + position % 100, flip=position % 2 == 1)
    caption = " ".join(WORDS[: 1 + position % len(WORDS)])
    return View(f"v{position}", position, pixels, made, position % len(CLASSES), caption, position)


def small_model(
    denoiser: DenoiserConfig = SMALL_DIT,
    conditioning: ConditioningConfig | None = None,
    process: ProcessConfig | None = None,
    channels: int = 3,
) -> DiffusionModel:
    """A model with no weight left at its constant start."""
    facts = DataFacts(channels, VIEW, CLASSES, WORDS, latent_size=(8, 8))
    spec = ModelSpec(process or ProcessConfig(), conditioning or ConditioningConfig(), denoiser, facts)
    return randomise(build_model(spec, seed=1))


def inputs_for(conditioning: ConditioningConfig, count: int, **changes: Any) -> ConditionInputs:
    """Valid inputs of `count` pictures for a conditioning, all of them kept."""
    semantic = conditioning.semantic
    noise = noise_shape(semantic)
    content: dict[str, Any] = {
        "keep_semantic": torch.ones(count, dtype=torch.bool),
        "keep_control": torch.ones(count, dtype=torch.bool),
        "labels": torch.arange(count) % len(CLASSES) if isinstance(semantic, ClassSemantic) else None,
        "text": text_of(count) if isinstance(semantic, TextSemantic) else None,
        "controls": {control.kind: control.numbers_of([record()] * count) for control in conditioning.controls},
        "padding_noise": None if noise is None else randn(count, *noise, seed=5),
    }
    return ConditionInputs(**{**content, **changes})


def text_of(count: int) -> TextTokens:
    """Captions of 1, 2, ... words."""
    lengths = 1 + torch.arange(count) % SMALL_WORDS.length
    mask = torch.arange(SMALL_WORDS.length) < lengths.unsqueeze(1)
    ids = (torch.arange(count * SMALL_WORDS.length).view(count, -1) % len(WORDS)) + 2
    return TextTokens(torch.where(mask, ids, 0), mask)


def relative(found: Tensor, wanted: Tensor) -> float:
    """max |found - wanted| / max |wanted|."""
    found, wanted = found.detach(), wanted.detach()
    return float((found - wanted).abs().max() / wanted.abs().max())


def rounding_floor(network: nn.Module, *arguments: Tensor, **named: Tensor) -> tuple[Tensor, float]:
    """The output of diffusers' `network` in float64, in which it stays, and how far its float32 output is from it, `relative`.

    Two float32 networks that compute the same are apart by a few such floors, whatever library multiplies for them.
    """

    def output(kind: torch.dtype) -> Tensor:
        network.to(kind)
        given = [x.to(kind) for x in arguments]
        with torch.no_grad():
            return network(*given, **{name: x.to(kind) for name, x in named.items()}).sample

    rounded, exact = output(torch.float32), output(torch.float64)
    return exact, relative(rounded.double(), exact)
