"""The inputs and outputs of the conditioning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from open_ldm.core.device import moved
from open_ldm.text.tokens import TextTokens

Slot = Literal["modulation", "context"]
"""The two fields of `Conditions` through which a condition can reach a denoiser."""


@dataclass(frozen=True)
class ConditionInputs:
    """Raw conditions of B pictures.

    Attributes:
        keep_semantic: Bool [B]; False where the semantic condition (what the picture shows) is dropped.
        keep_control: Bool [B]; False where the control conditions (how it was made) are dropped.
        labels: Class labels [B], int64.
        text: Tokens of the captions.
        controls: Numbers [B, n] of each control, by its key.
        padding_noise: Unit noise [B, L, D] for noisy_replicate padding.
    """

    keep_semantic: Tensor
    keep_control: Tensor
    labels: Tensor | None = None
    text: TextTokens | None = None
    controls: Mapping[str, Tensor] = field(default_factory=dict)
    padding_noise: Tensor | None = None

    def __len__(self) -> int:
        return len(self.keep_semantic)

    def map(self, change: Callable[[Tensor], Tensor]) -> ConditionInputs:
        """Return the inputs with `change` applied to every tensor."""

        def maybe(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else change(tensor)

        return ConditionInputs(
            keep_semantic=change(self.keep_semantic),
            keep_control=change(self.keep_control),
            labels=maybe(self.labels),
            text=None if self.text is None else self.text.map(change),
            controls={name: change(values) for name, values in self.controls.items()},
            padding_noise=maybe(self.padding_noise),
        )

    def to(self, device: torch.device) -> ConditionInputs:
        """Move every tensor."""
        return self.map(lambda tensor: moved(tensor, device))

    def rows(self, start: int, stop: int) -> ConditionInputs:
        """Return the inputs of pictures start to stop - 1."""
        return self.map(lambda tensor: tensor[start:stop])

    def repeated(self, times: int) -> ConditionInputs:
        """Repeat all pictures `times` times, one copy after the other."""
        return self.map(lambda tensor: torch.cat([tensor] * times))

    def kept(self, semantic: Tensor, control: Tensor) -> ConditionInputs:
        """Return the inputs with other keep masks, bool [B] each."""
        return replace(self, keep_semantic=semantic, keep_control=control)


@dataclass(frozen=True)
class Conditions:
    """The two condition slots that every denoiser takes.

    `modulation` [B, D] is added to the time embedding and acts through adaptive norms. `context` [B, L, context_dim] acts
    through attention and is ignored where `context_mask` (bool [B, L]) is False.
    """

    modulation: Tensor
    context: Tensor | None = None
    context_mask: Tensor | None = None
