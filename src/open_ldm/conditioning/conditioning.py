"""Conditioning: raw conditions and the time -> the two slots of a denoiser."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from open_ldm.conditioning.control import embed_control
from open_ldm.conditioning.inputs import ConditionInputs, Conditions, Slot
from open_ldm.conditioning.semantic import (
    ClassCondition,
    ClassSemantic,
    NoSemantic,
    SemanticConfig,
    SemanticSlots,
    TextCondition,
    TextSemantic,
)
from open_ldm.controls import Control, ControlConfig
from open_ldm.core.config import Config
from open_ldm.process.schedules import Schedule


class ConditioningConfig(Config):
    """The conditions of a model, their routes, and how often training drops them (probabilities from 0 to 1)."""

    semantic: SemanticConfig = NoSemantic()
    semantic_drop: float = Field(default=0.1, ge=0, le=1)
    controls: tuple[ControlConfig, ...] = ()
    control_drop: float = Field(default=0.1, ge=0, le=1)

    @field_validator("controls")
    @classmethod
    def _each_once(cls, controls: tuple[Control, ...]) -> tuple[Control, ...]:
        keys, names = [control.key for control in controls], [control.asked_as for control in controls]
        if twice := {key for key in keys if keys.count(key) > 1}:
            raise ValueError(f"control {', '.join(sorted(twice))} is listed twice")
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(
                f"two controls are asked for by {min(twice)}=...; needed: another name for the one of the metadata"
            )
        return controls

    @property
    def reads_captions(self) -> bool:
        """Whether the captions of pictures reach the model."""
        return isinstance(self.semantic, TextSemantic)

    @property
    def filled_slots(self) -> dict[Slot, str]:
        """The slots that conditions are routed to, each with the setting that routes a condition there."""
        filled: dict[Slot, str] = {}
        if not isinstance(self.semantic, NoSemantic):
            route = self.semantic.route
            slots: tuple[Slot, ...] = ("modulation", "context") if route == "both" else (route,)
            filled = dict.fromkeys(slots, f"conditioning.semantic.route={route}")
        if self.controls:
            filled.setdefault("modulation", "conditioning.controls")
        return filled


class Conditioning(nn.Module):
    """Module that turns the semantic and control conditions of a batch into `Conditions`.

    Args:
        semantic: The semantic condition.
        controls: The control conditions, fitted to the data; any `Control`, also one that no union lists.
        width: Width D of the modulation slot.
        classes: Number of classes, which a class condition needs.
        vocabulary: Number of words, which a word condition needs.
        schedule: The noise schedule, which tells gates the noise level of a time; None for the reference table's own times.
    """

    def __init__(
        self,
        semantic: NoSemantic | ClassSemantic | TextSemantic,
        controls: Sequence[Control],
        width: int,
        classes: int = 0,
        vocabulary: int = 0,
        schedule: Schedule | None = None,
    ) -> None:
        super().__init__()
        self.width = width
        self.semantic: ClassCondition | TextCondition | None = None
        match semantic:
            case ClassSemantic():
                self.semantic = ClassCondition(semantic, classes, width)
            case TextSemantic():
                self.semantic = TextCondition(semantic, vocabulary, width)
        self.controls = nn.ModuleDict({control.key: embed_control(control, width, schedule) for control in controls})

    @property
    def context_dim(self) -> int | None:
        """Width of context tokens; None when this conditioning fills no context."""
        return None if self.semantic is None else self.semantic.context_dim

    def forward(self, inputs: ConditionInputs, t: Tensor) -> Conditions:
        """Embed the inputs of B pictures at times t [B] in [0, 1]; gives modulation [B, D] and context [B, L, context_dim]."""
        slots = SemanticSlots() if self.semantic is None else self.semantic(inputs)
        modulation = torch.zeros(len(inputs), self.width, device=t.device)
        if slots.modulation is not None:
            modulation = modulation + slots.modulation
        for name, embedding in self.controls.items():
            modulation = modulation + embedding(inputs.controls[name], inputs.keep_control, t)
        return Conditions(modulation, slots.context, slots.mask)
