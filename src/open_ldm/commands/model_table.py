"""Counting models without allocating them: parameters, and multiply-adds of one forward pass."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from open_ldm.conditioning import ConditioningConfig, ConditionInputs
from open_ldm.conditioning.semantic import ClassSemantic, TextSemantic, noise_shape
from open_ldm.controls import ViewShape
from open_ldm.denoisers import DenoiserConfig, DiTConfig, MDTv2Config, MMDiTConfig, PixArtConfig, UNetConfig
from open_ldm.denoisers.base import SIZES
from open_ldm.denoisers.unet import UNET_SIZES
from open_ldm.model.diffusion import DiffusionModel, ModelFacts, ProcessConfig
from open_ldm.text import HuggingFaceConfig, TextTokens, WordsConfig


@dataclass(frozen=True)
class Count:
    """Trainable parameters, and multiply-adds (in 10^9) of one forward pass for one picture without guidance."""

    parameters: int
    gmacs: float


@dataclass(frozen=True)
class CensusRow:
    """One line of `ldm models`. `setting`: the latents and conditions it was counted for."""

    denoiser: str
    size: str
    patch: int
    parameters: int
    gmacs: float
    setting: str

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def count_model(
    process: ProcessConfig,
    conditioning: ConditioningConfig,
    denoiser: DenoiserConfig,
    facts: ModelFacts,
    latent_size: tuple[int, int],
) -> Count:
    """Build on the meta device and count; 1 multiply-add = 1 MAC, as the DiT paper counts its 'Gflops'."""
    with torch.device("meta"):
        model = DiffusionModel(process, conditioning, denoiser, facts).requires_grad_(False)
        x_t, t = torch.empty(1, facts.channels, *latent_size), torch.empty(1)
        inputs = _empty_inputs(conditioning)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.predict(x_t, t, inputs)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Count(parameters, counter.get_total_flops() / 2e9)


def _empty_inputs(conditioning: ConditioningConfig) -> ConditionInputs:
    """One picture's conditions, of the right shapes, holding nothing."""
    semantic = conditioning.semantic
    text = _empty_text(semantic.encoder) if isinstance(semantic, TextSemantic) else None
    shape = noise_shape(semantic)
    return ConditionInputs(
        keep_semantic=torch.empty(1, dtype=torch.bool),
        keep_control=torch.empty(1, dtype=torch.bool),
        labels=torch.empty(1, dtype=torch.long) if isinstance(semantic, ClassSemantic) else None,
        text=text,
        controls={control.kind: torch.empty(1, control.numbers) for control in conditioning.controls},
        padding_noise=None if shape is None else torch.empty(1, *shape),
    )


def _empty_text(encoder: WordsConfig | HuggingFaceConfig) -> TextTokens:
    mask = torch.empty(1, encoder.length, dtype=torch.bool)
    if isinstance(encoder, WordsConfig):
        return TextTokens(torch.empty(1, encoder.length, dtype=torch.long), mask)
    pooled = torch.empty(1, encoder.pooled_width) if encoder.pooled_width else None
    return TextTokens(torch.empty(1, encoder.length, encoder.width), mask, pooled)


def census() -> list[CensusRow]:
    """Every denoiser and size at 4x32x32 latents: DiT as published (class in modulation), mmDiT with 77 text tokens, PixArt
    with 120, the UNet with its class token."""
    rows = []
    for size in SIZES:
        dit = DiTConfig.model_validate({"size": size})
        facts = ModelFacts(4, ViewShape(256, 256, 256), class_names=tuple(map(str, range(1000))))
        by_class = ConditioningConfig(semantic=ClassSemantic(route="modulation"))
        count = count_model(ProcessConfig(learned_variance=True), by_class, dit, facts, (32, 32))
        rows.append(CensusRow("dit", size, 2, count.parameters, count.gmacs, "4x32x32 latents, 1000 classes, learned variance"))
    for size in SIZES:
        mmdit = MMDiTConfig.model_validate({"size": size})
        facts = ModelFacts(4, ViewShape(256, 256, 256), words=("word",))
        encoder = WordsConfig(length=77, width=2048)
        by_text = ConditioningConfig(semantic=TextSemantic(encoder=encoder, padding="zero"))
        count = count_model(ProcessConfig(), by_text, mmdit, facts, (32, 32))
        rows.append(CensusRow("mmdit", size, 2, count.parameters, count.gmacs, "4x32x32 latents, 77 text tokens of 2048"))
    return [*rows, *_mdtv2(), *_pixart(), *_unet()]


def _pixart() -> list[CensusRow]:
    """As published: T5-v1.1-XXL's width and 120 tokens, here of a table of words."""
    facts = ModelFacts(4, ViewShape(256, 256, 256), words=("word",))
    by_text = ConditioningConfig(semantic=TextSemantic(encoder=WordsConfig(length=120, width=4096), padding="mask"))
    process, setting = ProcessConfig(learned_variance=True), "4x32x32 latents, 120 text tokens of 4096, learned variance"
    rows = []
    for size in SIZES:
        count = count_model(process, by_text, PixArtConfig.model_validate({"size": size}), facts, (32, 32))
        rows.append(CensusRow("pixart", size, 2, count.parameters, count.gmacs, setting))
    return rows


def _mdtv2() -> list[CensusRow]:
    """As published; the masked pass of a training step comes on top."""
    facts = ModelFacts(4, ViewShape(256, 256, 256), class_names=tuple(map(str, range(1000))))
    by_class = ConditioningConfig(semantic=ClassSemantic(route="modulation"))
    process, setting = ProcessConfig(learned_variance=True), "4x32x32 latents, 1000 classes, learned variance"
    rows = []
    for size in SIZES:
        count = count_model(process, by_class, MDTv2Config.model_validate({"size": size}), facts, (32, 32))
        rows.append(CensusRow("mdtv2", size, 2, count.parameters, count.gmacs, setting))
    return rows


def _unet() -> list[CensusRow]:
    """As published: the class is a context of one token of 512; it cuts no patches."""
    facts = ModelFacts(4, ViewShape(256, 256, 256), class_names=tuple(map(str, range(1000))))
    by_class, setting = ConditioningConfig(semantic=ClassSemantic(width=512)), "4x32x32 latents, 1000 classes as tokens of 512"
    rows = []
    for size in UNET_SIZES:
        count = count_model(ProcessConfig(), by_class, UNetConfig.model_validate({"size": size}), facts, (32, 32))
        rows.append(CensusRow("unet", size, 1, count.parameters, count.gmacs, setting))
    return rows
