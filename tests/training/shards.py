"""One process of a small run whose model is in shards: python -m tests.training.shards save|load OUT.

Two processes train and save, and go on from what they saved; three load it, and what one process saved.
"""

from __future__ import annotations

import itertools
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from open_ldm.checkpoints.background import BackgroundSaves
from open_ldm.checkpoints.shared import SharedCheckpoints
from open_ldm.core.distributed import World, join_world
from open_ldm.core.errors import CheckpointError, DiskError
from open_ldm.model.objective import ObjectiveConfig
from open_ldm.training.parallel import Sharing, accumulating, fill, shared, whole_tensors
from open_ldm.training.settings import ParallelConfig
from open_ldm.training.trainer import DiffusionTrainer
from tests.helpers import DENOISERS, small_model
from tests.training.small_run import (
    CONDITIONING,
    CPU,
    all_tensors,
    noising,
    run_updates,
    same_bits,
    settings,
)

NAMES = ("dit", "mdtv2")
"""Denoisers; MDTv2 runs its blocks twice in a forward pass."""
UPDATES, MORE = 3, 2
REQUIRED = ("counters", "model", "ema", "optimizer")


def trainer_of(name: str, world: World, kind: Literal["ddp", "fsdp"] = "fsdp") -> DiffusionTrainer:
    model = small_model(DENOISERS[name], CONDITIONING)
    config = settings(recompute="none" if name == "dit" else "blocks")  # changes no bit, so the others need not know
    return DiffusionTrainer(model, noising(), ObjectiveConfig(), config, world, ParallelConfig(kind=kind))


def losses_of(trainer: DiffusionTrainer, count: int) -> list[float]:
    """Losses of the next updates, in as many micro-batches as fit."""
    return [update.loss for update in run_updates(trainer, count, micro=2)]


def save(world: World, out: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"sum": exchanged(world, 1), "copies": exchanged(world, 2), **facts(world)}
    for name in NAMES:
        trainer, store = trainer_of(name, world), SharedCheckpoints(out / name, world, required=REQUIRED)
        losses = losses_of(trainer, UPDATES)
        seen, counters = trainer.state.counters.samples_seen, trainer.state.counters_to_json()
        whole = whole_tensors(all_tensors(trainer))
        if name == NAMES[0]:
            store.save_of_all(seen, trainer.state.tensors(), {"counters": counters, "fingerprint": {}}, shards=True)
        else:  # the state of the call, whatever becomes of the model meanwhile
            whole = {key: tensor.clone() for key, tensor in whole.items()}
            background = BackgroundSaves(store)
            assert background.begin(seen, trainer.state.tensors(), {"counters": counters, "fingerprint": {}}, shards=True)
        with trainer.averaged() as average:  # an exchange of the main thread beside those of a save
            used = dict(average.state_dict())
            same = all(torch.equal(used[key], whole[f"ema.{key}"]) for key in used)
            prediction = average.denoiser is trainer.state.ema.model.denoiser and same
        emptied = all(parameter.is_meta for parameter in trainer.state.ema.model.parameters())
        if world.leads:
            save_file({key: tensor.contiguous() for key, tensor in whole.items()}, out / f"{name}.safetensors")
        after = losses_of(trainer, MORE)
        if name != NAMES[0]:
            done = background.ended(wait=True)
            assert done is not None and done.samples_seen == seen and done.saved.path.is_dir()
            assert background.ended() is None
        resumed = trainer_of(name, world)
        restore(resumed, store)
        held = sum(tensor.numel() for tensor in resumed.state.model.parameters())
        own = sum(tensor.to_local().numel() for tensor in resumed.state.model.parameters())  # type: ignore[operator]
        found[name] = {
            "losses": losses,
            "after": after,
            "same": losses_of(resumed, MORE) == after,
            "average": prediction and emptied,
            "share": own / held,
        }
    found["refused"], found["refused_beside"] = refused(world, out), refused_beside(world, out)
    return found


def refused(world: World, out: Path) -> str:
    """The line that all end with where one process cannot write."""
    trainer, store = trainer_of("dit", world), SharedCheckpoints(out / "refused", world, required=REQUIRED)
    if world.rank == 1:
        import open_ldm.checkpoints.shards as module

        def full(*args: Any) -> None:
            raise OSError(28, "No space left on device")

        module._HashingStream.write = full  # type: ignore[assignment]
    try:
        store.save_of_all(8, trainer.state.tensors(), {"counters": {}}, shards=True)
    except DiskError as error:
        left = [path.name for path in (out / "refused").iterdir()]
        return f"{error.one_line()} {error.of_all} {left}"
    return "nothing"


def refused_beside(world: World, out: Path) -> str:
    """The same in the background: each process hears of it, as of an error of its own, and may begin again."""
    trainer, background = trainer_of("dit", world), BackgroundSaves(SharedCheckpoints(out / "beside", world, required=REQUIRED))
    assert background.begin(8, trainer.state.tensors(), {"counters": {}}, shards=True)
    try:
        background.ended(wait=True)
    except DiskError as error:
        assert background.begin(8, trainer.state.tensors(), {"counters": {}}, shards=True)
        with suppress(DiskError):
            background.ended(wait=True)
        return f"{error.one_line()} {error.of_all}"
    return "nothing"


def load(world: World, out: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    kinds: tuple[Literal["ddp", "fsdp"], ...] = ("ddp", "fsdp")
    for name, kind in itertools.product(NAMES, kinds):
        trainer = trainer_of(name, world, kind)
        for folder in (name, f"{name}-plain"):
            restore(trainer, SharedCheckpoints(out / folder, world, required=REQUIRED))
            same = same_bits(whole_tensors(all_tensors(trainer)), load_file(out / f"{folder}.safetensors"))
            found[f"{folder} {kind}"] = same
    other = trainer_of("dit", world)
    try:
        restore(other, SharedCheckpoints(out / "mdtv2", world, required=REQUIRED))
    except CheckpointError as error:
        found["other"] = error.one_line()
    damaged = SharedCheckpoints(out / "damaged", world, required=REQUIRED)
    newest, problems = damaged.newest_of_all()
    found["damaged"] = [None if newest is None else newest.path.name, *problems]
    return found


def restore(trainer: DiffusionTrainer, store: SharedCheckpoints) -> None:
    checkpoint, problems = store.newest_of_all()
    assert checkpoint is not None and not problems
    trainer.restore(checkpoint)


class Sum(nn.Module):
    """Adds up its weights, times what it is given; only the first process uses the second weight."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.rank, self.used, self.unused = rank, nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.used * x).sum() + (self.unused.sum() if self.rank == 0 else 0)


def exchanged(world: World, replicate: int) -> list[float]:
    """Gradients that two processes add, values that are given, and how many gradients the first micro-batch exchanged."""
    module = Sum(world.rank)
    sharing = Sharing("fsdp", replicate)
    root = shared(module, (), world, sharing, CPU)
    early: list[Any] = []
    for last in (False, True):
        with accumulating(root, sharing, last=last):
            torch.autograd.backward(root(torch.tensor([1.0, 2.0, 3.0]) * (1 + world.rank)))
        early += [] if last else [each.grad for each in module.parameters() if each.grad is not None]
    gradients = whole_tensors({name: each.grad for name, each in module.named_parameters() if each.grad is not None})
    fill(dict(module.named_parameters()), {"used": torch.arange(3.0), "unused": torch.zeros(3)})
    given = whole_tensors({"used": module.used})["used"]
    return [*gradients["used"].tolist(), *gradients["unused"].tolist(), *given.tolist(), len(early)]


def facts(world: World) -> dict[str, Any]:
    """What FSDP2 does by itself, on gloo; docs/clusters.md lists it."""
    mesh = init_device_mesh("cpu", (world.size,), mesh_dim_names=("shard",))
    averaging, refused = (fully_shard(Sum(0), mesh=mesh) for _ in range(2))
    averaging(torch.ones(3)).backward()
    refused.set_gradient_divide_factor(1.0)
    found = {"averaged": whole_tensors({"used": averaging.used.grad})["used"].tolist()}
    try:
        refused(torch.ones(3)).backward()
    except RuntimeError as error:
        found["divisor"] = str(error)
    outer = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    fully_shard(outer, mesh=mesh)
    try:
        outer[0](torch.ones(1, 3))
    except RuntimeError as error:
        found["outside"] = str(error)
    return found


def main(what: str, out: Path) -> None:
    torch.set_num_threads(1)
    world = join_world(CPU, 100)
    found = {"save": save, "load": load}[what](world, out)
    (out / f"{what}-{world.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
