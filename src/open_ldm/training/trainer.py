"""The update: gradients of a global batch, summed over processes, and one step of the optimiser."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from open_ldm.checkpoints.checkpoint import Checkpoint
from open_ldm.core.distributed import World
from open_ldm.core.errors import ConfigError
from open_ldm.denoisers.attention_kernel import AttentionWatch
from open_ldm.encoded.batch import EncodedBatch
from open_ldm.model.diffusion import DiffusionModel
from open_ldm.model.noising import Noising, ObjectiveInputs
from open_ldm.model.objective import Objective, ObjectiveConfig
from open_ldm.training import loss_scale
from open_ldm.training.compile_check import record_calls
from open_ldm.training.compiled import Compiler
from open_ldm.training.learning_rate import learning_rate_at
from open_ldm.training.parallel import accumulating, choose_sharing, hollow_copy, own_parts, shared, total_norm
from open_ldm.training.recompute import recompute, recomputed_blocks
from open_ldm.training.settings import ParallelConfig, TrainingConfig
from open_ldm.training.state import TrainState
from open_ldm.training.update import BegunUpdate, Update

M = TypeVar("M", bound=nn.Module)
B = TypeVar("B")


class Trainer(ABC, Generic[M, B]):
    """Changes a `TrainState` by one update at a time; a subclass says what the loss is.

    M: the model; B: a micro-batch of what it learns from. `objective` gives the losses, and `root` is what is called for them.

    Args:
        model: What is trained.
        objective: Gives its losses.
        config: How it is trained.
        world: The processes that train it together.
        device: Where it lies.
        parallel: How the processes share it.
        blocks: Its repeated parts, in the order of computation.
        scaled: Scale the loss, because matrix products are fp16.
    """

    def __init__(
        self,
        model: M,
        objective: nn.Module,
        config: TrainingConfig,
        world: World,
        device: torch.device,
        parallel: ParallelConfig | None = None,
        blocks: Sequence[nn.Module] = (),
        scaled: bool = False,
    ) -> None:
        self.sharing = choose_sharing(parallel or ParallelConfig(), model, world, device, config.averages)
        hollow = hollow_copy(model) if self.sharing.in_shards else None
        self.objective, self.root = objective, shared(objective, blocks, world, self.sharing, device)
        if self.sharing.in_shards and config.optimizer.muon is not None:
            raise ConfigError(
                "training.optimizer.muon with a model in shards",
                needed="whole matrices on every process",
                fix="parallel.kind=ddp, or training.optimizer.muon=null",
            )
        self.state = TrainState(model, config, hollow, blocks)
        self.config, self.world, self.device, self.scaled = config, world, device, scaled
        self._parameters = list(model.parameters())
        self._begun: BegunUpdate | None = None
        self.blocks = list(blocks)
        self.compiler: Compiler | None = None
        self._wrap_blocks()  # behind the average, which is a copy

    @abstractmethod
    def losses(self, batch: B) -> Tensor:
        """Return the loss of each sample of a micro-batch [B], every draw a function of (seed, position)."""

    def prepared(self, batch: B) -> B:
        """Return a micro-batch with its random numbers drawn, which may be done ahead and in another thread."""
        return batch

    def update(self, micro_batches: Sequence[B]) -> Update:
        """Make one optimiser step; it is skipped when loss or gradient is not finite (docs/reliability.md, 3.8).

        Args:
            micro_batches: This process's share of a global batch.

        Returns:
            What was done, the same on every process.
        """
        loss = self._accumulate_gradients(micro_batches)
        self.world.sum_([loss])
        return self._step(loss)

    @property
    def lags(self) -> bool:
        """Whether `begin` keeps the device busy where `update` would wait for it.

        The optimiser of shards knows no flag, nor does Muon, and the loss scale of an update depends on what became of the one
        before.
        """
        flagged = not self.sharing.in_shards and self.config.optimizer.muon is None
        return self.device.type == "cuda" and flagged and not self.scaled

    def begin(self, micro_batches: Sequence[B]) -> Update | None:
        """Begin an update like `update`, without waiting for it: where it is not finite, the device leaves all weights alone.

        Args:
            micro_batches: This process's share of a global batch.

        Returns:
            What became of the update before; None after `settle`. It is looked at while the device computes the gradients of
            this one, and the averaged weights follow it then.
        """
        loss = self._accumulate_gradients(micro_batches)
        self.world.sum_([loss])
        before = self.settle()
        norm = total_norm(self._gradients())
        counters = self.state.counters
        counters.samples_seen += self.config.batch_size
        rate = learning_rate_at(self.config.optimizer, counters.samples_seen, self.config.samples)
        self._apply(norm, rate, skipped=1 - (torch.isfinite(loss) & torch.isfinite(norm)).float())
        self.state.optimizer.zero_grad()
        self._begun = BegunUpdate(loss, norm, rate, counters.samples_seen)
        return before

    def settle(self) -> Update | None:
        """Wait for the update that was begun last, count it and let the average follow; None where there is none."""
        begun, self._begun = self._begun, None
        if begun is None:
            return None
        loss, norm = begun.numbers()
        finite = math.isfinite(loss) and math.isfinite(norm)
        self._count(finite)
        return Update(loss, norm, begun.rate, finite, samples_seen=begun.samples_seen)

    def _wrap_blocks(self) -> None:
        """Have the blocks computed as the settings say, where they are compiled with compiled code."""
        for block in self.blocks:
            vars(block).pop("forward", None)  # what was set before; the class has its own
            if self.compiler is not None:
                setattr(block, "forward", self.compiler.forward_of(block))  # noqa: B010
        for block in recomputed_blocks(self.blocks, self.config.recompute):
            recompute(block)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to a checkpoint. Raises CheckpointError where that belongs to another model."""
        if self.world.size == 1:
            self.state.restore(checkpoint.files, checkpoint.content["counters"])
        else:
            self.state.read(checkpoint)

    @contextmanager
    def averaged(self, here: bool = True) -> Iterator[M]:
        """Context manager around a use of the averaged model; all processes enter it together.

        Args:
            here: Whether this process uses it.

        Yields:
            The averaged model, the same object every time; it has no values where it is in shards and not needed here.
        """
        with ExitStack() as stack:
            with self.world.waiting("the averaged weights"):
                stack.enter_context(self.state.ema.whole(here))
            yield self.state.ema.model

    def _step(self, loss: Tensor) -> Update:
        """One step of the optimiser by the gradients of the global batch."""
        gradients, counters = self._gradients(), self.state.counters
        if self.scaled:
            torch._foreach_mul_(own_parts(gradients), 1 / loss_scale.scale_of(counters))
        norm = total_norm(gradients)
        counters.samples_seen += self.config.batch_size
        rate = learning_rate_at(self.config.optimizer, counters.samples_seen, self.config.samples)
        finite = bool(torch.isfinite(loss) & torch.isfinite(norm))
        rescaled = self.scaled and not finite and bool(torch.isfinite(loss)) and loss_scale.overflowed(counters)
        if finite:
            self._apply(norm, rate)
        if not rescaled:
            self._count(finite)
        if finite and self.scaled:
            loss_scale.applied(counters)
        self.state.optimizer.zero_grad()
        return Update(float(loss), float(norm), rate, finite, rescaled, counters.samples_seen)

    def _accumulate_gradients(self, micro_batches: Sequence[B]) -> Tensor:
        total = torch.zeros((), device=self.device)
        scale = loss_scale.scale_of(self.state.counters) if self.scaled else 1
        for number, batch in enumerate(micro_batches, start=1):
            last = number == len(micro_batches)
            with accumulating(self.root, self.sharing, last=last), self.world.waiting("the sum of gradients"):
                loss = self.losses(batch).sum() / self.config.batch_size
                torch.autograd.backward(loss * scale if self.scaled else loss)
            total += loss.detach()
        return total

    def _gradients(self) -> list[Tensor]:
        for parameter in self._parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        return [parameter.grad for parameter in self._parameters if parameter.grad is not None]

    def _count(self, applied: bool) -> None:
        """Count an update, and let the averaged weights follow one that was applied."""
        counters = self.state.counters
        if not applied:
            counters.skipped += 1
            counters.skipped_in_row += 1
            return
        counters.updates += 1
        counters.skipped_in_row = 0
        self.state.ema.update(counters.updates)

    def _apply(self, norm: Tensor, rate: float, skipped: Tensor | None = None) -> None:
        if self.config.optimizer.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(self._parameters, self.config.optimizer.clip_norm, norm)
        self.state.optimizer.step(rate, skipped)


class DiffusionTrainer(Trainer[DiffusionModel, EncodedBatch | ObjectiveInputs]):
    """Trains a diffusion model on encoded views."""

    def __init__(
        self,
        model: DiffusionModel,
        noising: Noising,
        objective: ObjectiveConfig,
        config: TrainingConfig,
        world: World,
        parallel: ParallelConfig | None = None,
    ) -> None:
        blocks = model.denoiser.block_modules()
        scaled = model.denoiser.compute_dtype == torch.float16
        super().__init__(model, Objective(model, objective), config, world, noising.device, parallel, blocks, scaled)
        self.noising = noising
        self.attentions = AttentionWatch(model.denoiser)

    def compile(self, batch: EncodedBatch, *, check: bool) -> str:
        """Have the blocks compiled; all processes call this together, and agree.

        Args:
            batch: A micro-batch such as training will see.
            check: Compare compiled blocks with those as written.

        Returns:
            Why training goes on uncompiled, in words; empty where it is compiled.
        """
        model, compiler = self.state.model, Compiler()
        calls = record_calls(lambda: self.objective(self.noising.padded(self.noising.draw(batch))), self.blocks)
        self.attentions.close()  # compiled code has no place for it
        own = self.state.ema.model.denoiser.block_modules()  # whole ones, whatever the processes share
        problem = compiler.try_out(own, calls, model.denoiser.compute_dtype, self.device, check=check)
        problem = next((each for each in self.world.gathered(problem, "the compiler") if each), "")
        if not problem:
            self.compiler = compiler
            self._wrap_blocks()
        return problem

    def _accumulate_gradients(self, micro_batches: Sequence[EncodedBatch | ObjectiveInputs]) -> Tensor:
        total = super()._accumulate_gradients(micro_batches)
        self.attentions.close()  # the first update showed all there is to see
        if self.compiler is not None:
            self.compiler.updated()
        return total

    def prepared(self, batch: EncodedBatch | ObjectiveInputs) -> ObjectiveInputs:
        """Return a micro-batch with its random numbers drawn."""
        return batch if isinstance(batch, ObjectiveInputs) else self.noising.draw(batch)

    def losses(self, batch: EncodedBatch | ObjectiveInputs) -> Tensor:
        """Return the objective of each view [B] at its drawn time and noise."""
        losses: Tensor = self.root(self.noising.padded(self.prepared(batch)))
        return losses
