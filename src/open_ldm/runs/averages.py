"""Snapshots of the two averages of a run by powers, kept while it trains, and an average of another length made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from open_ldm.checkpoints.checkpoint import Checkpoint, CheckpointFolder, load_checkpoint, remove_checkpoint
from open_ldm.checkpoints.files import read_group
from open_ldm.checkpoints.names import run_folder_of, samples_seen_of
from open_ldm.checkpoints.shared import SharedCheckpoints
from open_ldm.core.errors import CheckpointError, ConfigError
from open_ldm.run_folder.folder import RunFolder
from open_ldm.runs.begun import parsed
from open_ldm.runs.load import load_run_checkpoint
from open_ldm.runs.recipe import Recipe, recipe_from
from open_ldm.training.loop import passed
from open_ldm.training.power_ema import LONGEST, Average, Combination, combine_averages, power_of, snapshots_kept
from open_ldm.training.settings import PowerEmaConfig, TrainingConfig
from open_ldm.training.trainer import Trainer

UPDATES = "updates"
"""Entry of a snapshot's manifest: updates that were applied by then."""
_ALL = 1 << 30


def keep_averages(folder: Path, trainer: Trainer[Any, Any]) -> None:
    """Write a snapshot of both averages where one is due, then remove those that are too many; all processes call it together.

    Args:
        folder: RUN/averages.
        trainer: Holds them.

    Raises:
        DiskError: The disk refuses.
    """
    training, seen = trainer.config, trainer.state.counters.samples_seen
    if not isinstance(training.ema, PowerEmaConfig) or not snapshot_is_due(training, seen):
        return
    every = max(training.snapshot_every_samples, training.batch_size)  # snapshots are no closer, and their numbers have no gaps
    store = SharedCheckpoints(folder, trainer.world, _ALL, (UPDATES,))
    content = {UPDATES: trainer.state.counters.updates}
    store.save_of_all(seen, trainer.state.ema.snapshot(), content, shards=trainer.sharing.in_shards)
    if trainer.world.leads:
        first: dict[int, str] = {}  # an interval that was another one before may have left several of one number
        for name in sorted(store.names()):
            first.setdefault(samples_seen_of(name) // every, name)
        kept = {first[number] for number in snapshots_kept(first, training.ema.keep_snapshots) if number}
        for name in store.names():
            if name not in kept:
                remove_checkpoint(folder / name)


def snapshot_is_due(training: TrainingConfig, samples_seen: int) -> bool:
    """Return whether a training keeps its averages at a position; at its end it does not: there a checkpoint holds both."""
    return passed(samples_seen - training.batch_size, samples_seen, training.snapshot_every_samples)


def forget_averages(folder: Path, trainer: Trainer[Any, Any]) -> None:
    """Remove the snapshots of updates that a training took back; all processes call it together, after that."""
    seen = trainer.state.counters.samples_seen
    for name in CheckpointFolder(folder).names() if trainer.world.leads else ():
        if samples_seen_of(name) > seen:
            remove_checkpoint(folder / name)


@dataclass(frozen=True)
class MadeAverage:
    """An average of another length than those that a run held.

    Attributes:
        checkpoint: Of the run at that time, with its first average.
        recipe: The run's.
        tensors: The averaged model's, float32.
        snapshots: How many snapshots there were besides the checkpoint.
        combination: What was made of them.
        problems: One line for each checkpoint or snapshot that was passed over.
    """

    checkpoint: Checkpoint
    recipe: Recipe
    tensors: Mapping[str, Tensor]
    snapshots: int
    combination: Combination
    problems: tuple[str, ...]


def require_length(length: float) -> None:
    """Raise ConfigError for what is no length of an average."""
    if not 0 < length < LONGEST:
        raise ConfigError(f"length {length:g}", needed=f"a share of the training above 0 and below {LONGEST:.3f}")


def make_average(path: Path, length: float) -> MadeAverage:
    """Make the average of a length as it would be at a checkpoint of a run.

    Args:
        path: A run folder, whose newest good checkpoint is taken, or one checkpoint inside it.
        length: In (0, `LONGEST`).

    Raises:
        ConfigError: The run did not keep two averages, has no update yet, or there is no such length.
        CheckpointError: Nothing verifies.
    """
    require_length(length)
    checkpoint, problems = load_run_checkpoint(path)
    recipe = parsed(recipe_from, checkpoint.content["recipe"], f"{checkpoint.path.name}/MANIFEST.json")
    config = recipe.training.ema
    if not isinstance(config, PowerEmaConfig) or config.groups[1] not in checkpoint.content["files"]:
        raise ConfigError(
            f"{path} holds one average of its weights",
            needed="a run of ldm train with training.ema.kind=power",
            fix="train it again with training.ema='{kind: power}'",
        )
    folder = CheckpointFolder(RunFolder(run_folder_of(checkpoint.path)).averages, required=(UPDATES, *config.groups))
    snapshots, more = _snapshots(folder, int(checkpoint.content["samples_seen"]), config.groups)
    updates = int(checkpoint.content["counters"][UPDATES])
    if updates == 0:
        raise ConfigError(f"{checkpoint.path} has no update yet to average over", needed="a checkpoint of a training under way")
    ends = [*(int(each.content[UPDATES]) for each in snapshots), updates]
    kept = [Average(power, end) for end in ends for power in config.powers]
    combination = combine_averages(kept, Average(power_of(length), updates))
    factors = iter(combination.factors)
    total: dict[str, Tensor] = {}
    for each in snapshots:
        for group in config.groups:
            _add(total, read_group(each.path, group, each.content["files"][group]), next(factors))
    second = read_group(checkpoint.path, config.groups[1], checkpoint.content["files"][config.groups[1]])
    for tensors in ({name: checkpoint.files["ema"][name] for name in second}, second):  # what is averaged, without constants
        _add(total, tensors, next(factors))
    whole = {name: total[name].float() if name in total else each for name, each in checkpoint.files["ema"].items()}
    return MadeAverage(checkpoint, recipe, whole, len(snapshots), combination, (*problems, *more))


def _add(total: dict[str, Tensor], tensors: Mapping[str, Tensor], factor: float) -> None:
    for name, tensor in tensors.items():
        part = tensor.to(torch.float64, copy=True).mul_(factor)
        total[name] = total[name].add_(part) if name in total else part


def _snapshots(folder: CheckpointFolder, before: int, groups: Sequence[str]) -> tuple[list[Checkpoint], list[str]]:
    """The good snapshots of earlier positions, oldest first, and what is wrong with the others.

    Their tensors are read again when they are added up: together they may be dozens of times the model.
    """
    found: list[Checkpoint] = []
    problems: list[str] = []
    for name in sorted(folder.names()):
        if samples_seen_of(name) >= before:
            continue
        try:
            found.append(replace(load_checkpoint(folder.root / name, tuple(groups), folder.required), files={}))
        except CheckpointError as error:
            problems.append(f"snapshot passed over: {error.one_line()}")
    return found, problems
