"""One process of several for `torture.py ranks`: trains, saves, loads, disagrees or measures, and says what it saw."""

from __future__ import annotations

import atexit
import ctypes
import gc
import hashlib
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from open_ldm.checkpoints.background import BackgroundSaves
from open_ldm.checkpoints.shared import SharedCheckpoints
from open_ldm.controls.data import survey_for
from open_ldm.core.device import choose_device, configure_process
from open_ldm.core.distributed import World
from open_ldm.core.errors import OpenLdmError
from open_ldm.model.knowledge import Knowledge
from open_ldm.runs.batches import Batches, live_batches
from open_ldm.runs.build import build_trainer, read_facts
from open_ldm.runs.encoders import load_encoders
from open_ldm.runs.recipe import load_recipe
from open_ldm.runs.train import train
from open_ldm.sources.loader import open_data
from open_ldm.training.parallel import whole_tensors, world_of
from open_ldm.training.plan import plan_batches
from open_ldm.training.trainer import DiffusionTrainer

MODES = {"one": "{}", "ddp": "{kind: ddp}", "fsdp": "{kind: fsdp}", "hsdp": "{kind: fsdp, replicate: 2}"}
REQUIRED = ("counters", "model", "ema", "optimizer")


@dataclass(frozen=True)
class Data:
    """What all trainings of one denoiser learn from."""

    batches: Batches
    known: Knowledge

    @classmethod
    @cache
    def of(cls, recipe: str, world: World) -> Data:
        """Open the data of the recipe in this file."""
        given, machine = load_recipe(recipe), choose_device("cpu", "float32")
        source = open_data(given.data, captions=given.conditioning.reads_captions)
        facts = read_facts(given, source, survey_for(given.conditioning.controls, source))
        encoders = load_encoders(given, source, facts, machine)
        batches = live_batches(given, source, facts, encoders)
        return cls(batches, Knowledge(encoders.sign(facts), batches.stats_of_all(world)))


class Training:
    """A denoiser in training, without a run folder; `mode` says how the processes share it."""

    def __init__(self, recipe: str, mode: str, world: World) -> None:
        self.recipe, self.world = load_recipe(recipe, [f"parallel={MODES[mode]}"]), world
        data = Data.of(recipe, world)
        self.batches = data.batches
        machine = choose_device("cpu", "float32")
        self.trainer: DiffusionTrainer = build_trainer(self.recipe, data.known, machine, world)

    def losses(self, updates: int) -> list[float]:
        """Losses of the next updates."""
        plan = plan_batches(self.recipe.training.batch_size, self.recipe.training.micro_batch_size, self.world)
        seen = self.trainer.state.counters.samples_seen
        read = self.batches.read(islice(plan.ranges(seen), updates * plan.micro_batches))
        encoded = map(self.batches.encoder.encode, read)
        return [self.trainer.update(list(islice(encoded, plan.micro_batches))).loss for _ in range(updates)]

    def hashes(self) -> dict[str, str]:
        """SHA-256 of every tensor of the state, made whole."""
        groups = self.trainer.state.tensors()
        tensors = {f"{group}.{name}": tensor for group, part in groups.items() for name, tensor in part.items()}
        return hashes_of(whole_tensors(tensors))


def hashes_of(tensors: dict[str, Tensor]) -> dict[str, str]:
    return {
        name: hashlib.sha256(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()
        for name, tensor in sorted(tensors.items())
    }


def save(job: dict[str, Any], world: World) -> dict[str, Any]:
    """Train each denoiser, save, and go on to the end."""
    found = {}
    for name, recipe in job["recipes"].items():
        run = Training(recipe, job["mode"], world)
        losses, state = run.losses(job["before"]), run.trainer.state
        store = SharedCheckpoints(Path(job["out"]) / f"{job['mode']}-{world.size}-{name}", world, required=REQUIRED)
        content, shards = {"counters": state.counters_to_json(), "fingerprint": {}}, run.trainer.sharing.in_shards
        store.save_of_all(state.counters.samples_seen, state.tensors(), content, shards=shards)
        hashes = run.hashes()
        found[name] = {"losses": losses + run.losses(job["updates"] - job["before"]), "hashes": hashes}
    return found


def load(job: dict[str, Any], world: World) -> dict[str, Any]:
    """Load one saved state of each denoiser after the other, and go on from each."""
    found = {}
    for name, recipe in job["recipes"].items():
        run = Training(recipe, job["mode"], world)
        for saved in job["saved"]:
            store = SharedCheckpoints(Path(job["out"]) / f"{saved}-{name}", world, required=REQUIRED)
            checkpoint, problems = store.newest_of_all()
            assert checkpoint is not None and not problems, problems
            run.trainer.restore(checkpoint)
            hashes = run.hashes()
            count = job["updates"] - job["before"] if saved == f"{job['mode']}-{world.size}" else 1
            found[f"{saved} {name}"] = {"hashes": hashes, "losses": run.losses(count)}
    return found


def disagree(job: dict[str, Any], world: World) -> dict[str, Any]:
    """Differ in one thing after another: the line that each ends with, its exit code, and after how many seconds."""
    out, mine = Path(job["out"]), world.rank
    recipe = next(iter(job["recipes"].values()))
    last = world.size - 1

    def begin(changes: list[str], folder: Path) -> Callable[[], object]:
        return lambda: train(load_recipe(recipe, changes), folder, silent=True)

    def pictures(folder: Path) -> list[str]:
        return [f"data.source={{kind: folder, path: {folder}}}", "conditioning.semantic={kind: none}"]

    def other_state() -> None:
        SharedCheckpoints(out / f"checkpoints-{int(mine == last)}", world, required=REQUIRED).newest_of_all()

    def no_state() -> None:
        folder = out / ("none" if mine == last else "checkpoints-0")
        SharedCheckpoints(folder, world, required=REQUIRED).newest_of_all()

    run = out / "run"
    kind = "denoiser.depth=3" if mine == last else "denoiser.depth=2"
    cases = {
        "recipe: a number": begin([f"training.optimizer.learning_rate={0.002 if mine == last else 0.001}"], run),
        "recipe: the network": begin([kind], run),
        "recipe: kind of sharing": begin([f"parallel.kind={'fsdp' if mine == last else 'ddp'}"], run),
        "run folder is not shared": begin([], out / f"run-{int(mine == last)}"),
        "checkpoint: another one": other_state,
        "checkpoint: none on one": no_state,
        "data: other pictures": begin(pictures(out / f"pictures-{int(mine == last)}"), run),
        "data: no folder on one": begin(pictures(out / ("nowhere" if mine == last else "pictures-0")), run),
    }
    found = {}
    for case, action in cases.items():
        world.barrier(case)
        started, ended = time.monotonic(), ("nothing", 0)
        try:
            with world.sharing_errors():
                action()
        except OpenLdmError as error:
            ended = re.sub(r"run-[01]\b", "run-?", error.one_line()), error.exit_code
        found[case] = {"line": ended[0], "code": ended[1], "seconds": time.monotonic() - started}
    return found


def memory(job: dict[str, Any], world: World) -> dict[str, Any]:
    """Bytes for each parameter at the peak, over what the process had before the model was built.

    A C library that keeps freed memory hides what is held at one time, so it is told to return it, until `kept`.
    """
    mode, (small, large) = job["mode"], job["recipes"].values()
    out, shards = Path(job["out"]) / f"memory-{mode}-{world.size}", mode == "fsdp"
    malloc_keeps(1 << 16, 1 << 16)
    Training(small, mode, world).losses(1)  # what is imported on the way is no part of the model
    import open_ldm.checkpoints.shards  # noqa: F401

    Data.of(large, world)
    gc.collect()
    before = resident()
    reset_peak()
    run = Training(large, mode, world)
    state, found = run.trainer.state, {}
    parameters = sum(parameter.numel() for parameter in state.model.parameters())

    def note(name: str) -> None:
        found[name] = (peak() - before) / parameters
        reset_peak()

    note("build")
    run.losses(job["updates"])
    note("train")
    store = SharedCheckpoints(out, world, required=REQUIRED)
    started = time.monotonic()
    store.save_of_all(8, state.tensors(), {"counters": state.counters_to_json()}, shards=shards)
    seconds = time.monotonic() - started
    note("save")
    configure_process(choose_device("cpu", "float32"))
    run.losses(job["updates"])
    note("train_with_kept_memory")
    return {**found, "parameters": parameters, "save_seconds": seconds}


def saves(job: dict[str, Any], world: World) -> dict[str, Any]:
    """Seconds of synchronous saves, and those that training waits for saves in the background, in turns; the median of each.

    An update runs beside each save in the background. The first of these also takes memory for the copy of the state.
    """
    run = Training(next(iter(job["recipes"].values())), job["mode"], world)
    run.losses(1)
    state, shards = run.trainer.state, run.trainer.sharing.in_shards
    store = SharedCheckpoints(Path(job["out"]) / f"saves-{job['mode']}", world, required=REQUIRED)
    background, waited, waiting, beside = BackgroundSaves(store), list[float](), list[float](), list[float]()
    for _ in range(job["rounds"] + 1):
        content = {"counters": state.counters_to_json(), "fingerprint": {}}
        world.barrier("a synchronous save")
        started = time.perf_counter()
        store.save_of_all(state.counters.samples_seen, state.tensors(), content, shards=shards)
        waited.append(time.perf_counter() - started)
        run.losses(1)
        content = {"counters": state.counters_to_json(), "fingerprint": {}}
        world.barrier("a save in the background")
        started = time.perf_counter()
        assert background.begin(state.counters.samples_seen, state.tensors(), content, shards=shards), background.refusal
        waiting.append(time.perf_counter() - started)
        run.losses(1)
        done = background.ended(wait=True)
        assert done is not None
        beside.append(done.seconds)
    synchronous, copying = median(waited[1:]), median(waiting[1:])
    return {
        "share": copying / synchronous,
        "synchronous_seconds": synchronous,
        "waiting_seconds": copying,
        "first_waiting_seconds": waiting[0],
        "in_background_seconds": median(beside[1:]),
        "bytes": done.saved.bytes,
    }


def malloc_keeps(trim_bytes: int, mmap_bytes: int) -> None:
    """Tell glibc how much freed memory to keep (mallopt's M_TRIM_THRESHOLD and M_MMAP_THRESHOLD)."""
    library = ctypes.CDLL(None)
    library.mallopt(-1, trim_bytes)
    library.mallopt(-3, mmap_bytes)


def resident() -> int:
    return _status("VmRSS")


def peak() -> int:
    return _status("VmHWM")


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _status(name: str) -> int:
    text = Path("/proc/self/status").read_text()
    return int(re.findall(rf"{name}:\s+(\d+) kB", text)[0]) * 1024


def run_rank(rank: int, given: dict[str, str], what: str, job: Path, out: Path) -> None:
    """One process of rank `rank`; what it found is written to OUT.RANK.json."""
    os.environ |= {**given, "RANK": str(rank), "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    content = json.loads(job.read_text())
    world = world_of(load_recipe(next(iter(content["recipes"].values()))))
    found = {"save": save, "load": load, "disagree": disagree, "memory": memory, "saves": saves}[what](content, world)
    out.with_suffix(f".{world.rank}.json").write_text(json.dumps(found))
    atexit._run_exitfuncs()  # a fork ends without them
