"""The exponential moving average of the weights."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from open_ldm.training.settings import EmaConfig

M = TypeVar("M", bound=nn.Module)


class Ema(Generic[M]):
    """Averaged copy of a model, which starts equal to it and moves after every update:

    ema += (1 - decay) (weights - ema)
    """

    def __init__(self, model: M, config: EmaConfig) -> None:
        self.config = config
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._averaged: list[Tensor] = list(self.model.parameters())
        self._weights: list[Tensor] = list(model.parameters())

    def decay_at(self, updates: int) -> float:
        """The decay of update number `updates`, of which the first is 1: min(decay, (1 + n) / (10 + n)) with warm-up."""
        if not self.config.warmup:
            return self.config.decay
        return min(self.config.decay, (1 + updates) / (10 + updates))

    @torch.no_grad()
    def update(self, updates: int) -> None:
        """Move towards the model's current weights after update number `updates`."""
        torch._foreach_lerp_(self._averaged, self._weights, 1 - self.decay_at(updates))
