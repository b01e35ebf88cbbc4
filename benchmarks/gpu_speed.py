"""How fast is it on this device? Training steps against diffusers, sampling, memory against `ldm plan`, encoding, FSDP2."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

import train_step
from contender import MODELS, ModelName, Setting, Size
from gpu import Cell, Where
from open_ldm.autoencoders import LatentStats, build_autoencoder
from open_ldm.autoencoders.export import export
from open_ldm.autoencoders.identity import IdentityAutoencoder
from open_ldm.autoencoders.kl import KLConfig
from open_ldm.autoencoders.network import NetworkConfig, build_network
from open_ldm.commands.dry_run import DryRun, dry_run
from open_ldm.commands.plan.speed import measure_speed
from open_ldm.conditioning.empty import empty_inputs
from open_ldm.core.device import choose_device, most_memory
from open_ldm.core.peak import matrix_speed
from open_ldm.model.diffusion import build_model
from open_ldm.runs.memory import Waiting, memory_of
from open_ldm.runs.recipe import load_recipe
from open_ldm.sampling.generate import Generator
from open_ldm.training import parallel

GOALS: Mapping[str, float] = {"XL": 0.40, "B": 0.30, "S": 0.22}
BATCHES = (256, 128, 64, 32, 16)
STEPS, TOY_STEPS = 6, 2


def cells() -> list[Cell]:
    """The most valuable first: what a training of the published size costs."""

    def one(model: ModelName, size: Size, seconds: float, *, compiled: bool = True) -> Cell:
        name = f"step/{model}-{size}/{'compiled' if compiled else 'eager'}"
        return Cell(name, seconds, partial(step, model=model, size=size, compiled=compiled))

    return [
        one("dit", "XL", 70),
        one("mmdit", "XL", 65),
        Cell("memory/plan", 25, memory),
        Cell("encode", 20, encode),
        Cell("sample", 25, sample),
        one("dit", "XL", 30, compiled=False),
        one("dit", "B", 30),
        one("dit", "S", 25),
        Cell("fsdp", 20, fsdp),
        Cell("recompute", 25, recompute),
        one("unet", "XL", 35, compiled=False),
    ]


def step(where: Where, model: ModelName, size: Size, compiled: bool) -> Mapping[str, Any]:
    """One training step of both sides in turns, at the largest batch that both fit in, blocks compiled or not on both."""
    machine = choose_device(where.device.type, "auto")  # type: ignore[arg-type]
    assert model in MODELS
    size = "XS" if where.toy else size
    batches, build = ((2,) if where.toy else BATCHES), train_step.build

    def both(setting: Setting) -> Any:
        found = build(setting)
        for side in (found.ours, found.peer) if compiled else ():
            compile_blocks(side.network, "aot_eager" if where.toy else "inductor")
        return found

    train_step.build = both
    try:
        for batch in batches:
            try:
                side = 4 if where.toy else 32
                setting = Setting(model, size, batch, side, machine.device, machine.compute_dtype)
                found = train_step.measure(setting, TOY_STEPS if where.toy else STEPS)
                break
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
        else:
            return {"failed": f"out of memory with {batches[-1]}"}
    finally:
        train_step.build = build
        torch._dynamo.reset()
    share = 1e9 * found.ours.gflops_per_second / matrix_speed(machine, 64 if where.toy else None)
    goal = GOALS.get(size)
    return {
        **asdict(found),
        "share_of_peak": share,
        "compiled": compiled,
        "goal_share": goal,
        "reached": share >= (goal or 0.0),
    }


def compile_blocks(network: nn.Module, backend: str) -> None:
    """Compile the repeated blocks of a network, each as one graph; equal ones share their code."""
    for module in network.modules():
        if isinstance(module, nn.ModuleList) and len(module) > 1:
            for block in module:
                block.compile(dynamic=False, backend=backend)


def planned(where: Where) -> DryRun:
    """A recipe of the published size, counted without data."""
    small = ["denoiser={kind: dit, size: XS, patch: 2}", "data.transform.size_px=64", "training.batch_size=4"]
    changes = small if where.toy else ["training.batch_size=64"]
    return dry_run(load_recipe("imagenet256-dit-xl2", [*changes, f"training.device={where.device.type}"]))


def memory(where: Where) -> Mapping[str, Any]:
    """The most memory that three updates take, against the arithmetic of `ldm plan`, and pictures a second."""
    run, machine = planned(where), choose_device(where.device.type, "auto")  # type: ignore[arg-type]
    batch = run.recipe.training.batch_size
    ready = Waiting(batch, counted=where.device.type == "cuda")  # what the timed updates hold
    counted = memory_of(run.recipe, run.facts, run.parameters, machine.compute_dtype, waiting=ready).total(batch)
    if where.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    speed = measure_speed(run.recipe, run.facts, machine, batch)
    taken = most_memory(machine.device)
    return {
        "planned_bytes": counted,
        "taken_bytes": taken,
        "ratio": None if taken is None else counted / taken,
        "pictures_per_second": speed.samples_per_second,
    }


def recompute(where: Where) -> Mapping[str, Any]:
    """Memory and speed with blocks that are computed again."""
    run, machine = planned(where), choose_device(where.device.type, "auto")  # type: ignore[arg-type]
    found: dict[str, Any] = {}
    for setting in ("none", "blocks"):
        training = run.recipe.training.model_copy(update={"recompute": setting})
        recipe = run.recipe.model_copy(update={"training": training})
        if where.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        speed = measure_speed(recipe, run.facts, machine, recipe.training.batch_size)
        found[setting] = {"taken_bytes": most_memory(machine.device), "pictures_per_second": speed.samples_per_second}
    return found


def timed(where: Where, work: Callable[[], object], times: int) -> float:
    """Median seconds of a piece of work; the first time does not count."""
    seconds = []
    for _ in range(times + 1):
        started = time.perf_counter()
        work()
        if where.device.type == "cuda":
            torch.cuda.synchronize(where.device)
        seconds.append(time.perf_counter() - started)
    return median(seconds[1:])


def encode(where: Where) -> Mapping[str, Any]:
    """Pictures a second of an autoencoder of Stable Diffusion's size, with random weights."""
    count, side = (2, 32) if where.toy else (64, 256)
    config = (
        NetworkConfig(widths=(8, 8, 8, 8), groups=4)
        if where.toy
        else NetworkConfig(widths=(128, 256, 512, 512), blocks=2, groups=32, attention=True)
    )
    with tempfile.TemporaryDirectory() as folder:
        export(build_network(config, 0), LatentStats((0.0,) * 4, (1.0,) * 4), Path(folder))
        autoencoder = build_autoencoder(KLConfig(path=folder), where.device)
    images = torch.rand(count, 3, side, side, device=where.device) * 2 - 1
    seconds = timed(where, lambda: autoencoder.encode(images), 2 if where.toy else 5)
    return {"side_px": side, "pictures_per_second": count / seconds, "goal": 1000}


def sample(where: Where) -> Mapping[str, Any]:
    """Pictures a second of 50 guided steps, without decoding."""
    run, machine = planned(where), choose_device(where.device.type, "auto")  # type: ignore[arg-type]
    model = build_model(run.recipe.model_spec(run.facts), 0).to(machine.device).compute_in(machine.compute_dtype).eval()
    count, steps = (2, 2) if where.toy else (32, 50)
    channels, *size = run.recipe.latent_shape
    stats = LatentStats((0.0,) * channels, (1.0,) * channels)
    generator = Generator(model, IdentityAutoencoder(channels), stats, (size[0], size[1]), machine.device)
    inputs = empty_inputs(run.recipe.conditioning, count)
    config = run.recipe.sampling.model_copy(update={"steps": steps, "batch_size": count})
    seconds = timed(where, lambda: generator.images(inputs, range(count), config), 1)
    return {"steps": steps, "solver": config.solver, "pictures_per_second": count / seconds}


def fsdp(where: Where) -> Mapping[str, Any]:
    """Updates of a model in shards on one device against a plain one, in turns."""
    import torch.distributed as dist

    run, machine = planned(where), choose_device(where.device.type, "auto")  # type: ignore[arg-type]
    for name, value in (("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "29577")):
        os.environ.setdefault(name, value)
    dist.init_process_group("nccl" if where.device.type == "cuda" else "gloo", rank=0, world_size=1)
    speeds: dict[str, list[float]] = {"single": [], "fsdp": []}
    choose = parallel.choose_sharing
    try:
        for _ in range(1 if where.toy else 3):
            for kind, found in speeds.items():
                sharing = parallel.Sharing(kind)  # type: ignore[arg-type]
                _with_sharing(lambda *given, sharing=sharing: sharing)
                speed = measure_speed(run.recipe, run.facts, machine, run.recipe.training.batch_size)
                found.append(speed.samples_per_second)
    finally:
        _with_sharing(choose)
        dist.destroy_process_group()
    plain, shards = median(speeds["single"]), median(speeds["fsdp"])
    return {"plain": plain, "in_shards": shards, "ratio": shards / plain, "goal": 0.95}


def _with_sharing(choose: Callable[..., parallel.Sharing]) -> None:
    """A world of one never shares: the trainer is told to."""
    from open_ldm.training import trainer

    trainer.choose_sharing = choose  # type: ignore[assignment]
