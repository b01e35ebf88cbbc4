"""The exponential moving average of the weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from open_ldm.training.parallel import own_parts, whole_tensors
from open_ldm.training.settings import EmaConfig

M = TypeVar("M", bound=nn.Module)


class Ema(Generic[M]):
    """Averaged copy of a model, which starts equal to it and moves after every update:

    ema += (1 - decay) (weights - ema)

    The average of a model in shards is in shards too. `model` then has its values only within `whole`.

    Args:
        model: What is averaged.
        config: Says how.
        hollow: For a model in shards, a copy of it without values; see `parallel.hollow_copy`.
    """

    def __init__(self, model: M, config: EmaConfig, hollow: M | None = None) -> None:
        self.config = config
        self.model = (copy.deepcopy(model) if hollow is None else hollow).eval().requires_grad_(False)
        self._shards = {} if hollow is None else {name: each.detach().clone() for name, each in model.named_parameters()}
        self._averaged: list[Tensor] = list(self.model.parameters() if hollow is None else self._shards.values())
        self._weights: list[Tensor] = list(model.parameters())

    def decay_at(self, updates: int) -> float:
        """The decay of update number `updates`, of which the first is 1: min(decay, (1 + n) / (10 + n)) with warm-up."""
        if not self.config.warmup:
            return self.config.decay
        return min(self.config.decay, (1 + updates) / (10 + updates))

    @torch.no_grad()
    def update(self, updates: int) -> None:
        """Move towards the model's current weights after update number `updates`."""
        torch._foreach_lerp_(own_parts(self._averaged), own_parts(self._weights), 1 - self.decay_at(updates))

    def tensors(self) -> dict[str, Tensor]:
        """Return the averaged model's tensors by name, whole or in shards; they are not copied."""
        return {**self.model.state_dict(), **self._shards}

    @contextmanager
    def whole(self, here: bool = True) -> Iterator[None]:
        """Context manager in which `model` has its values; all processes enter it together.

        Args:
            here: Whether this process needs them. Otherwise it only sends its shards to the others.
        """
        if not self._shards:
            yield
            return
        hollow = {name: tensor for name, tensor in self.model.state_dict().items() if name in self._shards}
        self.model.load_state_dict(whole_tensors(self._shards, here), strict=False, assign=True)
        try:
            yield
        finally:
            self.model.load_state_dict(hollow, strict=False, assign=True)
