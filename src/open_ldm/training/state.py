"""The state of a training run: all that a checkpoint holds of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Generic, TypeVar

from torch import Tensor, nn

from open_ldm.checkpoints.checkpoint import Checkpoint
from open_ldm.core.errors import CheckpointError
from open_ldm.training.ema import Ema
from open_ldm.training.optimizer import Optimizer
from open_ldm.training.parallel import fill
from open_ldm.training.settings import TrainingConfig

M = TypeVar("M", bound=nn.Module)


@dataclass
class Counters:
    """Counters of a run. `samples_seen` is the only state of data loading and of every random draw.

    Attributes:
        samples_seen: By the model, those of skipped updates among them.
        updates: That were applied.
        skipped: Updates whose loss or gradient was not finite.
        skipped_in_row: Of them, since the last one that was applied.
        rollbacks: How often the weights of a checkpoint were restored.
        loss_scale: Factor of the loss in fp16 (training/loss_scale.py); 0 in a run without.
        updates_at_scale: That were applied since it changed.
    """

    samples_seen: int = 0
    updates: int = 0
    skipped: int = 0
    skipped_in_row: int = 0
    rollbacks: int = 0
    loss_scale: int = 0
    updates_at_scale: int = 0


class TrainState(Generic[M]):
    """Model, averaged model, optimiser and counters.

    Equal states, data and settings give bit-equal updates on the same machine (docs/reliability.md, 3.1). All tensors are
    whole, or in shards of which each process has its own.

    Args:
        model: What is trained.
        config: How.
        hollow: As for `Ema`.
        blocks: As for `Optimizer`.
    """

    def __init__(self, model: M, config: TrainingConfig, hollow: M | None = None, blocks: Sequence[nn.Module] = ()) -> None:
        self.model = model
        self.ema = Ema(model, config.ema, hollow)
        self.optimizer = Optimizer(model, config.optimizer, blocks)
        self.counters = Counters()

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Return all tensors of a checkpoint, by file (model, ema, optimizer, second average) and name, not copied."""
        return {
            "model": dict(self.model.state_dict()),
            "ema": self.ema.tensors(),
            "optimizer": self.optimizer.tensors(),
            **self.ema.second(),
        }

    def counters_to_json(self) -> dict[str, Any]:
        """Return the counters as plain data for a manifest, without those of a loss scale where there is none."""
        scaled = ("loss_scale", "updates_at_scale")
        return {name: count for name, count in asdict(self.counters).items() if self.counters.loss_scale or name not in scaled}

    def restore(self, files: Mapping[str, Mapping[str, Tensor]], counters: Mapping[str, Any]) -> None:
        """Go back to an earlier state.

        Args:
            files: What `tensors` returned then.
            counters: What `counters_to_json` returned then.

        Raises:
            CheckpointError: The tensors belong to another model.
        """
        for name, module in (("model", self.model), ("ema", self.ema.model)):
            try:
                module.load_state_dict(dict(files[name]))
            except (RuntimeError, KeyError) as error:
                first = next((line.strip() for line in str(error).splitlines()[1:]), str(error))
                raise CheckpointError(f"checkpoint does not fit the recipe's model: {first}") from error
        for name, own in self.ema.second().items():
            if own.keys() != files.get(name, {}).keys():
                raise CheckpointError(f"checkpoint does not fit the recipe's model: {name} is missing or of another model")
            fill(own, files[name])
        self.optimizer.restore(files["optimizer"])
        self.counters = Counters(**counters)

    def read(self, checkpoint: Checkpoint) -> None:
        """Go back to a checkpoint, of which each process reads only what it holds.

        Args:
            checkpoint: Verified; its tensors need not have been read.

        Raises:
            CheckpointError: The tensors belong to another model.
        """
        begun = bool(checkpoint.content["files"]["optimizer"]["tensors"])
        self.optimizer.empty(begun=begun)
        for group, tensors in self.tensors().items():
            checkpoint.read_into(group, tensors)
        self.counters = Counters(**checkpoint.content["counters"])

    def start_with(self, tensors: Mapping[str, Tensor]) -> None:
        """Give the model and its average the weights that a new run starts with.

        Args:
            tensors: All tensors of the model, by name, whole.
        """
        for own in (dict(self.model.state_dict()), self.ema.tensors(), *self.ema.second().values()):
            fill(own, tensors)
