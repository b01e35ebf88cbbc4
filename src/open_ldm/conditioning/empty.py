"""Conditions of the right shapes that say nothing, to count a model or to time it."""

from __future__ import annotations

import torch

from open_ldm.conditioning.conditioning import ConditioningConfig
from open_ldm.conditioning.inputs import ConditionInputs
from open_ldm.conditioning.semantic import ClassSemantic, TextSemantic, noise_shape
from open_ldm.text import HuggingFaceConfig, TextTokens, WordsConfig


def empty_inputs(conditioning: ConditioningConfig, pictures: int = 1) -> ConditionInputs:
    """Conditions of so many pictures, of the right shapes: the first class, captions of full length, controls of 0."""
    semantic = conditioning.semantic
    text = _empty_text(semantic.encoder, pictures) if isinstance(semantic, TextSemantic) else None
    shape = noise_shape(semantic)
    return ConditionInputs(
        keep_semantic=torch.ones(pictures, dtype=torch.bool),
        keep_control=torch.ones(pictures, dtype=torch.bool),
        labels=torch.zeros(pictures, dtype=torch.long) if isinstance(semantic, ClassSemantic) else None,
        text=text,
        controls={control.key: torch.zeros(pictures, control.numbers) for control in conditioning.controls},
        padding_noise=None if shape is None else torch.zeros(pictures, *shape),
    )


def _empty_text(encoder: WordsConfig | HuggingFaceConfig, pictures: int) -> TextTokens:
    mask = torch.ones(pictures, encoder.length, dtype=torch.bool)
    if isinstance(encoder, WordsConfig):
        return TextTokens(torch.zeros(pictures, encoder.length, dtype=torch.long), mask)
    pooled = torch.zeros(pictures, encoder.pooled_width) if encoder.pooled_width else None
    return TextTokens(torch.zeros(pictures, encoder.length, encoder.width), mask, pooled)
