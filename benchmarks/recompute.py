"""Memory and time of an update with and without `training.recompute=blocks`, side by side.

    python benchmarks/recompute.py --updates 9 --json recompute.json

Memory is torch's own count of what its CPU allocator gave out and took back (the profiler's memory events): the most that
forward and backward pass hold above what lay there before, which is weights, optimiser and the gradients they add to. Times
are medians of the process's own processor seconds, which other work changes little; the two sides take turns. Losses and
weights are compared bit by bit at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from open_ldm.autoencoders import LatentStats
from open_ldm.commands.dry_run import dry_run
from open_ldm.core.device import Machine, set_up_machine
from open_ldm.core.distributed import World
from open_ldm.model.knowledge import Knowledge
from open_ldm.runs.build import build_trainer
from open_ldm.runs.made_batch import made_batch
from open_ldm.runs.memory import most_held
from open_ldm.runs.recipe import Recipe, load_recipe
from open_ldm.training.trainer import DiffusionTrainer

KINDS = ("dit", "mdtv2", "mmdit", "pixart", "unet")


def trainer_of(kind: str, size: str, batch: int, recompute: str, machine: Machine) -> tuple[Recipe, DiffusionTrainer, int]:
    """A trainer of the demo's data on latents 3x32x32, and what `ldm plan` counts for it."""
    changes = [f"denoiser={{kind: {kind}, size: {size}}}", f"training.batch_size={batch}", f"training.recompute={recompute}"]
    run = dry_run(load_recipe("demo", [*changes, "process.learned_variance=false", "training.samples=1000000"]))
    known = Knowledge(run.facts, LatentStats((0.0,) * 3, (1.0,) * 3))
    counted = most_held(run.recipe, run.facts, batch, machine.compute_dtype)
    return run.recipe, build_trainer(run.recipe, known, machine, World()), counted


def update_of(recipe: Recipe, trainer: DiffusionTrainer) -> float:
    """One update on made pictures; its loss."""
    start, device = trainer.state.counters.samples_seen, trainer.device
    return trainer.update([made_batch(recipe, start, recipe.training.batch_size, device)]).loss


def most_bytes(recipe: Recipe, trainer: DiffusionTrainer) -> int:
    """The most that forward and backward pass hold above what was there before, gradients among it."""
    trainer._gradients()
    batch = made_batch(recipe, 0, recipe.training.batch_size, trainer.device)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        trainer._accumulate_gradients([batch])
    trainer.state.optimizer.zero_grad()
    assert seen.profiler is not None and seen.profiler.kineto_results is not None
    changes = [each for each in seen.profiler.kineto_results.events() if each.name() == "[memory]"]
    held = most = 0
    for change in sorted(changes, key=lambda each: each.start_ns()):
        held += change.nbytes()
        most = max(most, held)
    return most


def measure(kind: str, size: str, batch: int, updates: int, machine: Machine) -> dict[str, Any]:
    """Both sides of one denoiser."""
    sides = {how: trainer_of(kind, size, batch, how, machine) for how in ("none", "blocks")}
    seconds: dict[str, list[float]] = {how: [] for how in sides}
    losses: dict[str, list[float]] = {how: [] for how in sides}
    for number in range(1 + updates):
        for how, (recipe, trainer, _) in sides.items():
            started = time.process_time()
            losses[how].append(update_of(recipe, trainer))
            if number:
                seconds[how].append(time.process_time() - started)
    weights = [list(trainer.state.model.parameters()) for _, trainer, _ in sides.values()]
    bytes_of = {how: most_bytes(recipe, trainer) for how, (recipe, trainer, _) in sides.items()}
    return {
        "denoiser": kind,
        "most_mb": {how: round(count / 1e6, 1) for how, count in bytes_of.items()},
        "plan_mb": {how: round(counted / 1e6, 1) for how, (_, _, counted) in sides.items()},
        "memory_ratio": round(bytes_of["blocks"] / bytes_of["none"], 3),
        "plan_ratio": round(sides["blocks"][2] / sides["none"][2], 3),
        "seconds": {how: round(median(taken), 4) for how, taken in seconds.items()},
        "time_ratio": round(median(b / a for a, b in zip(seconds["none"], seconds["blocks"], strict=True)), 3),
        "same_bits": losses["none"] == losses["blocks"] and all(map(torch.equal, *weights)),
    }


def main() -> None:
    """Measure every denoiser, and write each as it comes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", default=KINDS)
    parser.add_argument("--size", default="S")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--updates", type=int, default=7)
    parser.add_argument("--dtype", default="bf16", choices=("float32", "bf16"))
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())))
    machine = set_up_machine("cpu", given.dtype)
    found = []
    for kind in given.kinds:
        found.append(measure(kind, given.size, given.batch, given.updates, machine))
        print(json.dumps(found[-1]), flush=True)
        if given.json:
            given.json.write_text(json.dumps({"machine": machine.sentence, "batch": given.batch, "cells": found}, indent=1))


if __name__ == "__main__":
    main()
