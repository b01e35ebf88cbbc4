"""Trainer: model, averaged model, optimiser and counters, and the one update that changes them together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from open_ldm.core.distributed import World
from open_ldm.core.errors import CheckpointError
from open_ldm.encoded.batch import EncodedBatch
from open_ldm.model.diffusion import DiffusionModel
from open_ldm.model.noising import Drawer
from open_ldm.model.objective import ObjectiveConfig, losses
from open_ldm.training.ema import Ema
from open_ldm.training.optimizer import build_optimizer, learning_rate_at, optimizer_tensors, restore_optimizer
from open_ldm.training.settings import TrainingConfig


@dataclass
class Progressed:
    """Counters of a run. `samples_seen` is the only state of data loading and of every random draw."""

    samples_seen: int = 0
    updates: int = 0
    skipped: int = 0
    skipped_in_row: int = 0
    rollbacks: int = 0


@dataclass(frozen=True)
class Update:
    """What one update reports: mean loss over the global batch, gradient norm before clipping, and what was done."""

    loss: float
    grad_norm: float
    learning_rate: float
    applied: bool
    stop_requested: bool


M = TypeVar("M", bound=nn.Module)
B = TypeVar("B")


class Learner(ABC, Generic[M, B]):
    """Everything that a checkpoint holds. The same state, data and settings give bit-equal results on the same machine.

    M: the model; B: a batch of what it learns from. A subclass says what the loss is.
    """

    def __init__(self, model: M, config: TrainingConfig, world: World, device: torch.device) -> None:
        self.model, self.config, self.world, self.device = model, config, world, device
        self.ema = Ema(model, config.ema)
        self.optimizer = build_optimizer(model, config.optimizer)
        self.progressed = Progressed()
        self._parameters = list(model.parameters())

    @abstractmethod
    def losses(self, batch: B) -> Tensor:
        """Loss of each sample of a micro-batch, every draw a function of (seed, position)."""

    def update(self, micro_batches: Sequence[B], stop_requested: bool = False) -> Update:
        """One optimiser step on the micro-batches of a global batch; skipped when loss or gradient is not finite.

        `stop_requested` of any process is reported to all of them.
        """
        loss = self._accumulate_gradients(micro_batches)
        stop = torch.tensor(float(stop_requested), device=loss.device)
        gradients = self._gradients()
        self.world.sum_([*gradients, loss, stop])
        norm = torch.nn.utils.get_total_norm(gradients)
        done = self.progressed
        done.samples_seen += self.config.batch_size
        rate = learning_rate_at(self.config.optimizer, done.samples_seen, self.config.samples)
        finite = bool(torch.isfinite(loss) & torch.isfinite(norm))
        if finite:
            self._apply(norm, rate)
            done.skipped_in_row = 0
        else:
            done.skipped += 1
            done.skipped_in_row += 1
        self.optimizer.zero_grad(set_to_none=True)
        return Update(float(loss), float(norm), rate, finite, bool(stop))

    def _accumulate_gradients(self, micro_batches: Sequence[B]) -> Tensor:
        total = torch.zeros((), device=self.device)
        for batch in micro_batches:
            loss = self.losses(batch).sum() / self.config.batch_size
            torch.autograd.backward(loss)
            total += loss.detach()
        return total

    def _gradients(self) -> list[Tensor]:
        for parameter in self._parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        return [parameter.grad for parameter in self._parameters if parameter.grad is not None]

    def _apply(self, norm: Tensor, rate: float) -> None:
        if self.config.optimizer.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self._parameters, self.config.optimizer.clip_norm, norm)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.progressed.updates += 1
        self.ema.update(self.progressed.updates)

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """All tensors of a checkpoint, by file."""
        return {
            "model": dict(self.model.state_dict()),
            "ema": dict(self.ema.model.state_dict()),
            "optimizer": optimizer_tensors(self.model, self.optimizer),
        }

    def counters(self) -> dict[str, Any]:
        """The counters, as plain data for a manifest."""
        return asdict(self.progressed)

    def restore(self, files: Mapping[str, Mapping[str, Tensor]], counters: Mapping[str, Any]) -> None:
        """Go back to what `tensors` and `counters` gave. Raises CheckpointError when it belongs to another model."""
        for name, module in (("model", self.model), ("ema", self.ema.model)):
            try:
                module.load_state_dict(dict(files[name]))
            except (RuntimeError, KeyError) as error:
                first = next((line.strip() for line in str(error).splitlines()[1:]), str(error))
                raise CheckpointError(f"checkpoint does not fit the recipe's model: {first}") from error
        restore_optimizer(self.model, self.optimizer, files["optimizer"])
        self.progressed = Progressed(**counters)


class Trainer(Learner[DiffusionModel, EncodedBatch]):
    """Trains a diffusion model on encoded views."""

    def __init__(
        self,
        model: DiffusionModel,
        drawer: Drawer,
        objective: ObjectiveConfig,
        config: TrainingConfig,
        world: World,
    ) -> None:
        super().__init__(model, config, world, drawer.device)
        self.drawer, self.objective = drawer, objective

    def losses(self, batch: EncodedBatch) -> Tensor:
        """The objective of each view at its drawn time and noise."""
        drawn = self.drawer.draw(batch)
        return losses(self.model, self.objective, drawn.x_0, drawn.t, drawn.inputs, drawn.draws)
