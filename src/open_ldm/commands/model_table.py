"""Counting models without allocating them: parameters, multiply-adds of one forward pass, and the memory of a training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch

from open_ldm.autoencoders import KLConfig
from open_ldm.conditioning import ConditioningConfig
from open_ldm.conditioning.semantic import ClassSemantic, TextSemantic
from open_ldm.controls import ViewShape
from open_ldm.denoisers.base import SIZES
from open_ldm.denoisers.unet import UNET_SIZES
from open_ldm.model.count import count_model
from open_ldm.model.spec import DataFacts, ProcessConfig
from open_ldm.runs.memory import Memory, memory_of, weights_and_kin
from open_ldm.runs.recipe import Recipe
from open_ldm.text import WordsConfig
from open_ldm.text.padding import PaddingKind


@dataclass(frozen=True)
class ModelRow:
    """One line of `ldm models`.

    Attributes:
        denoiser: Its kind.
        size: Its name.
        patch: Latents of a side of a token; 1 for the UNet.
        parameters: Of the whole model.
        gmacs: Multiply-adds of one forward pass of one picture, in 10^9.
        memory: What a training holds, by the arithmetic of `ldm plan`; what pictures add, in bf16, where that was asked.
        setting: The latents and conditions it was counted for.
    """

    denoiser: str
    size: str
    patch: int
    parameters: int
    gmacs: float
    memory: Memory
    setting: str

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "memory": self.memory.to_json()}


@dataclass(frozen=True)
class _Published:
    """How a denoiser's sizes are counted: as the architecture was published, at 4x32x32 latents."""

    conditioning: ConditioningConfig
    setting: str
    learned_variance: bool = False
    words: tuple[str, ...] = ()


_CLASSES = tuple(map(str, range(1000)))
_BY_CLASS = ConditioningConfig(semantic=ClassSemantic(route="modulation"))
_SIZE_PX = 256
"""Of pictures whose latents are 4x32x32."""


def _by_text(length: int, width: int, padding: PaddingKind) -> ConditioningConfig:
    """Captions as tokens of a published text encoder, here of a table of words, whose vectors are not counted."""
    return ConditioningConfig(semantic=TextSemantic(encoder=WordsConfig(length=length, width=width), padding=padding))


PUBLISHED = {
    "dit": _Published(_BY_CLASS, "4x32x32 latents, 1000 classes, learned variance", learned_variance=True),
    "mmdit": _Published(_by_text(77, 2048, "zero"), "4x32x32 latents, 77 text tokens of 2048", words=("word",)),
    "mdtv2": _Published(_BY_CLASS, "4x32x32 latents, 1000 classes, learned variance", learned_variance=True),
    "pixart": _Published(
        _by_text(120, 4096, "mask"),
        "4x32x32 latents, 120 text tokens of 4096, learned variance",
        learned_variance=True,
        words=("word",),
    ),
    "unet": _Published(ConditioningConfig(semantic=ClassSemantic(width=512)), "4x32x32 latents, 1000 classes as tokens of 512"),
}
"""By the denoiser's kind, in the order of the table. MDTv2's masked pass of a training step comes on top of its row."""


def model_table(*, pictures: bool = False) -> Iterator[ModelRow]:
    """Count every denoiser in every named size, with the conditions it was published with, a row at a time.

    Args:
        pictures: Count the memory of pictures too, by a forward pass of each model without numbers: seconds for each.

    Yields:
        Each row as soon as it is counted.
    """
    for kind in PUBLISHED:
        for size in UNET_SIZES if kind == "unet" else SIZES:
            yield count_row(kind, size, pictures=pictures)


def count_row(kind: str, size: str, *, pictures: bool = False) -> ModelRow:
    """Count one denoiser in one size; `pictures` as in `model_table`."""
    published = PUBLISHED[kind]
    classes = () if published.words else _CLASSES
    facts = DataFacts(4, ViewShape(_SIZE_PX, _SIZE_PX, _SIZE_PX), class_names=classes, words=published.words)
    recipe = Recipe.model_validate(
        {
            "name": "counted",
            "data": {"source": {"kind": "shapes"}, "transform": {"size_px": _SIZE_PX}},
            "autoencoder": KLConfig(path="counted"),
            "conditioning": published.conditioning,
            "process": ProcessConfig(learned_variance=published.learned_variance),
            "denoiser": {"kind": kind, "size": size},
            "training": {"samples": 1, "batch_size": 1, "checkpoint_every_samples": 1},
        }
    )
    count = count_model(recipe.model_spec(facts), recipe.latent_shape[1:])
    parameters = count.parameters
    memory = memory_of(recipe, facts, parameters, torch.bfloat16) if pictures else weights_and_kin(parameters)
    patch = getattr(recipe.denoiser, "patch", 1)
    return ModelRow(kind, size, patch, count.parameters, count.gmacs, memory, published.setting)
