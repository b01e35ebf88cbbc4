"""One process of a small run under torchrun's environment: python -m tests.training.worker OUT UPDATES."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import distributed

from open_ldm.core.distributed import join_world
from tests.helpers import DENOISERS
from tests.training.small_run import CPU, all_tensors, run_updates, settings, small_trainer

ALIKE = tuple(DENOISERS) if os.environ.get("LDM_ALIKE") == "all" else ("dit", "unet")
"""Denoisers whose weights after `BIT_EQUAL_UPDATES` are those of one process that adds the gradients of two.

LDM_ALIKE=all takes all of them; two make a quick suite.
"""
BIT_EQUAL_UPDATES = 10


def main(out: Path, updates: int) -> None:
    torch.set_num_threads(1)
    world = join_world(CPU)
    for name in ALIKE:
        # One of them computes its blocks again in the backward pass, which changes no bit.
        each = small_trainer(settings(recompute="none" if name == "dit" else "blocks"), DENOISERS[name], world)
        run_updates(each, BIT_EQUAL_UPDATES, micro=2)
        save_file(
            {key: tensor.contiguous() for key, tensor in all_tensors(each).items()}, out / f"{name}-{world.rank}.safetensors"
        )
    trainer = small_trainer(settings(), world=world)
    done = run_updates(trainer, updates, micro=2)
    stop = world.any(world.rank == 1)
    assert not world.any(False)
    trainer.update([])
    stops = world.gathered((world.rank, stop))
    if world.leads:
        save_file({name: tensor.contiguous() for name, tensor in all_tensors(trainer).items()}, out / "end.safetensors")
        (out / "reported.json").write_text(json.dumps({"losses": [update.loss for update in done], "stop": stops}))
    world.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
