"""One of two processes that keep two averages of a model in shards, whose queries and keys are normalised.

python -m tests.training.power_shards OUT
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from open_ldm.checkpoints.shared import SharedCheckpoints
from open_ldm.core.distributed import World, join_world
from open_ldm.model.objective import ObjectiveConfig
from open_ldm.runs.averages import keep_averages
from open_ldm.training.parallel import whole_tensors
from open_ldm.training.settings import ParallelConfig, PowerEmaConfig, TrainingConfig
from open_ldm.training.trainer import DiffusionTrainer
from tests.helpers import SMALL_DIT, small_model
from tests.training.small_run import BATCH_SIZE, CONDITIONING, CPU, all_tensors, noising, run_updates, same_bits, settings

UPDATES = 3
REQUIRED = ("counters", "model", "ema", "ema_0.1", "optimizer")
NORMED = SMALL_DIT.model_copy(update={"qk_norm": "rms"})


def config() -> TrainingConfig:
    return settings(ema=PowerEmaConfig(snapshot_every_samples=BATCH_SIZE, keep_snapshots=4))


def trainer_of(world: World) -> DiffusionTrainer:
    model = small_model(NORMED, CONDITIONING)
    return DiffusionTrainer(model, noising(), ObjectiveConfig(), config(), world, ParallelConfig(kind="fsdp"))


def main(out: Path) -> None:
    world = join_world(CPU)
    trainer, store = trainer_of(world), SharedCheckpoints(out / "checkpoints", world, required=REQUIRED)
    for _ in range(UPDATES):
        run_updates(trainer, 1, micro=2)
        keep_averages(out / "averages", trainer)
    state = trainer.state
    content = {"counters": state.counters_to_json(), "fingerprint": {}}
    store.save_of_all(state.counters.samples_seen, state.tensors(), content, shards=True)
    whole = whole_tensors(all_tensors(trainer))
    again = trainer_of(world)
    checkpoint, problems = store.newest_of_all()
    assert checkpoint is not None and not problems
    again.restore(checkpoint)
    assert same_bits(whole_tensors(all_tensors(again)), whole), "going on gives the same bits"
    if world.leads:
        save_file({name: tensor.contiguous() for name, tensor in whole.items()}, out / "whole.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
