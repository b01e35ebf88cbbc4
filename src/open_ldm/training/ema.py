"""The moving averages of the weights: one by a decay, or two by powers of the update's number."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from open_ldm.training.parallel import own_parts, whole_tensors
from open_ldm.training.power_ema import step_towards
from open_ldm.training.settings import EmaConfig, PowerEmaConfig

M = TypeVar("M", bound=nn.Module)


class Ema(Generic[M]):
    """Averaged copy of a model, which starts equal to it and moves after every update:

    ema += step (weights - ema),

    with step 1 - decay, or as `power_ema.step_towards`. The average of a model in shards is in shards too. `model` then has its
    values only within `whole`.

    Args:
        model: What is averaged.
        config: Says how. Of two averages the first is `model`.
        hollow: For a model in shards, a copy of it without values; see `parallel.hollow_copy`.

    Attributes:
        others: Parameters of a second average by name, whole or in shards; empty where there is one.
    """

    def __init__(self, model: M, config: EmaConfig | PowerEmaConfig, hollow: M | None = None) -> None:
        self.config = config
        self.model = (copy.deepcopy(model) if hollow is None else hollow).eval().requires_grad_(False)
        self._shards = {} if hollow is None else {name: each.detach().clone() for name, each in model.named_parameters()}
        self._names = [name for name, _ in model.named_parameters()]
        self._averaged: list[Tensor] = list(self.model.parameters() if hollow is None else self._shards.values())
        self._weights: list[Tensor] = list(model.parameters())
        second = isinstance(config, PowerEmaConfig)
        self.others = {name: each.detach().clone() for name, each in model.named_parameters()} if second else {}
        # They solve a cubic equation, so they are found once.
        self._powers = config.powers if isinstance(config, PowerEmaConfig) else (0.0, 0.0)

    def decay_at(self, updates: int) -> float:
        """The decay of update number `updates`, of which the first is 1: min(decay, (1 + n) / (10 + n)) with warm-up.

        Of averages by powers, that of the first.
        """
        if isinstance(self.config, PowerEmaConfig):
            return 1 - step_towards(self._powers[0], updates)
        if not self.config.warmup:
            return self.config.decay
        return min(self.config.decay, (1 + updates) / (10 + updates))

    @torch.no_grad()
    def update(self, updates: int) -> None:
        """Move towards the model's current weights after update number `updates`."""
        torch._foreach_lerp_(own_parts(self._averaged), own_parts(self._weights), 1 - self.decay_at(updates))
        if self.others:
            step = step_towards(self._powers[1], updates)
            torch._foreach_lerp_(own_parts(list(self.others.values())), own_parts(self._weights), step)

    def tensors(self) -> dict[str, Tensor]:
        """Return the averaged model's tensors by name, whole or in shards; they are not copied."""
        return {**self.model.state_dict(), **self._shards}

    def snapshot(self) -> Mapping[str, Mapping[str, Tensor]]:
        """Return the parameters of both averages by the names of their groups, not copied; empty where there is one."""
        if not isinstance(self.config, PowerEmaConfig):
            return {}
        first, second = self.config.groups
        return {first: dict(zip(self._names, self._averaged, strict=True)), second: self.others}

    def second(self) -> dict[str, dict[str, Tensor]]:
        """Return the second average as a group of a checkpoint; empty where there is none."""
        return {self.config.groups[1]: self.others} if isinstance(self.config, PowerEmaConfig) else {}

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
