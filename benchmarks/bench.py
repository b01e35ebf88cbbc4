"""What `make bench` runs: every cell within a time, the file written after each, what is in it not run again.

    python benchmarks/bench.py --json bench.json                       # about 15 minutes on two cores
    python benchmarks/bench.py --json bench.json --minutes 60 --compiled
    python benchmarks/bench.py --json bench.json --parts step encode --refuse-busy

Parts: `step` (training steps, five denoisers in float32 and bf16, against diffusers as shipped; with `--compiled` also against
it compiled by torch), `sampling` (one evaluation of the network without gradients, both sides), `encode` (a KL autoencoder as
open-ldm calls it and as diffusers is called), `start` (the command line, beside importing torch and diffusers alone), `trainer`
(`ldm train demo` whole, beside its updates alone), `shared` (benchmarks/shared_machine.py). Sides take turns; quartiles are
given. The cores that other programs used before a cell stand in it, and above 0.5 it is marked, or refused with
`--refuse-busy`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import quantiles
from typing import Any

import torch
from torch import Tensor

import open_ldm
import train_step
from contender import MODELS, ModelName, Setting, as_people_train
from contenders import build
from open_ldm.core.device import DtypeName, set_up_machine
from open_ldm.core.files import hash_file, write_json
from open_ldm.core.hashes import hash_content
from open_ldm.core.others import MANY, cores_of_others

PARTS = ("step", "sampling", "encode", "start", "trainer", "shared")
SHARES = {"step": 0.6, "sampling": 0.1, "encode": 0.05, "start": 0.05, "trainer": 0.1, "shared": 0.1}
"""Of the time, by part; one that is not asked for leaves its share to the others."""
ROUNDS = 9


@dataclass(frozen=True)
class Job:
    """One cell: its name, and what measures it within so many seconds."""

    name: str
    part: str
    measure: Callable[[float], Mapping[str, Any]]


def turns(sides: Mapping[str, Callable[[], object]], seconds: float, rounds: int = ROUNDS) -> dict[str, Any]:
    """Time sides by turns, in an order that changes, at least twice each, and at most `rounds` times within the seconds.

    Returns:
        By side [lower quartile, median, upper quartile] in seconds, the ratio of the second side's to the first's within a
        round likewise, and the number of rounds.
    """
    taken: dict[str, list[float]] = {name: [] for name in sides}
    began, names = time.perf_counter(), list(sides)
    for work in sides.values():
        work()  # the first call is slower
    for number in range(rounds):
        if number >= 2 and time.perf_counter() - began > seconds:
            break
        for name in names if number % 2 else names[::-1]:
            started = time.perf_counter()
            sides[name]()
            taken[name].append(time.perf_counter() - started)
    spread = {name: quantiles(each, n=4, method="inclusive") for name, each in taken.items()}
    first, second = (taken[name] for name in names[:2])
    ratios = [b / a for a, b in zip(first, second, strict=True)]
    return {"seconds": spread, "ratio": quantiles(ratios, n=4, method="inclusive"), "rounds": len(ratios)}


def step(model: ModelName, dtype: DtypeName, size: Any, compiled: bool, seconds: float) -> Mapping[str, Any]:
    """One comparison of training steps."""
    machine = set_up_machine("auto", dtype)
    setting = Setting(model, size, 8, 32, machine.device, machine.compute_dtype)
    cell = train_step.measure(setting, 1000, seconds=seconds, compiled=compiled)
    print(train_step.line_of(cell), file=sys.stderr, flush=True)
    return {**asdict(cell), "processor": train_step._processor(machine.device)}


def sampling(model: ModelName, dtype: DtypeName, size: Any, seconds: float) -> Mapping[str, Any]:
    """One evaluation of the network without gradients."""
    machine = set_up_machine("auto", dtype)
    setting = Setting(model, size, 8, 32, machine.device, machine.compute_dtype)
    both = build(setting)

    def evaluate(predict: Callable[[], Tensor]) -> None:
        with torch.no_grad(), as_people_train(setting):
            predict()

    ours, peer = both.ours.network.eval(), both.peer.network.eval()
    assert not ours.training and not peer.training
    return turns({"open-ldm": partial(evaluate, both.ours.predict), "diffusers": partial(evaluate, both.peer.predict)}, seconds)


def encode(side_px: int, seconds: float) -> Mapping[str, Any]:
    """A KL autoencoder of random weights on 4 pictures, in float32: as open-ldm calls it, and as diffusers is called."""
    from diffusers import AutoencoderKL

    from open_ldm.autoencoders.kl import KLAutoencoder, KLConfig

    machine = set_up_machine("auto", "float32")
    levels = (32, 64, 128)
    with tempfile.TemporaryDirectory() as folder:
        kinds: Any = {name: [f"{name.title()}EncoderBlock2D"] * len(levels) for name in ("down", "up")}
        torch.manual_seed(0)
        blocks = {"down_block_types": kinds["down"], "up_block_types": ["UpDecoderBlock2D"] * len(levels)}
        AutoencoderKL(block_out_channels=levels, latent_channels=4, norm_num_groups=8, **blocks).save_pretrained(folder)
        ours = KLAutoencoder(KLConfig(path=folder, channels=4, factor=2 ** (len(levels) - 1)), machine.device)
        peer = AutoencoderKL.from_pretrained(folder).to(machine.device).eval()
        images = torch.rand(4, 3, side_px, side_px, device=machine.device) * 2 - 1

        def as_shipped() -> None:
            with torch.no_grad():
                peer.encode(images).latent_dist.mean.float()

        def by_us() -> None:
            with torch.no_grad():
                ours.encode(images)

        return {**turns({"open-ldm": by_us, "diffusers": as_shipped}, seconds), "pictures": [4, side_px]}


def start(seconds: float) -> Mapping[str, Any]:
    """A new process for each: the help, a plan, and what the libraries alone take."""

    def process(*words: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, *words], check=True, capture_output=True)

    sides = {
        "ldm models --json": process("-m", "open_ldm", "models", "--json"),
        "import torch, diffusers": process("-c", "import torch, diffusers"),
        "ldm --help": process("-m", "open_ldm", "--help"),
        "import torch": process("-c", "import torch"),
    }
    return turns(sides, seconds, rounds=5)


def trainer(seconds: float) -> Mapping[str, Any]:
    """`ldm train demo` as a whole, and the share of its time that its updates alone would take."""
    from open_ldm.commands.dry_run import dry_run
    from open_ldm.commands.plan.speed import measure_speed
    from open_ldm.core.events import read_events
    from open_ldm.runs.recipe import load_recipe

    never = [f"training.{name}_samples=1000000000" for name in ("preview_every", "checkpoint_every")]
    recipe = load_recipe("demo", [*never, "training.log_every_samples=320"])
    machine = set_up_machine("auto", "auto")
    alone = measure_speed(recipe, dry_run(recipe).facts, machine, recipe.training.batch_size).samples_per_second
    samples = max(640, int(alone * seconds / 2) // 320 * 320)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = [sys.executable, "-m", "open_ldm", "train", "demo", *never, f"training.samples={samples}"]
        began = time.perf_counter()
        subprocess.run([*command, "training.log_every_samples=320", "--out", str(run)], check=True, capture_output=True)
        whole = time.perf_counter() - began
        reports = [event for event in read_events(run / "events.jsonl") if event.name == "train"]
        rates = [event.number("samples_per_second") or 0.0 for event in reports]
    spread = quantiles(rates, n=4, method="inclusive") if len(rates) > 1 else rates * 3
    return {"samples": samples, "whole_seconds": whole, "samples_per_second": spread, "updates_alone_per_second": alone}


def shared(seconds: float) -> Mapping[str, Any]:
    """Training beside a busy process, as torch waits and as ldm does."""
    one = max(0.3, min(4.0, seconds / (4 * 15)))
    rounds = max(2, min(15, int(seconds / (4 * (one + 0.3)))))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "shared.json"
        script = Path(__file__).with_name("shared_machine.py")
        command = [sys.executable, str(script), "--rounds", str(rounds), "--seconds", f"{one:.2f}", "--json", str(file)]
        subprocess.run(command, check=True, capture_output=True)
        found: dict[str, Any] = json.loads(file.read_text())
    return found


def dtypes_here() -> tuple[DtypeName, ...]:
    """The formats that training would take here: bf16 only where this machine multiplies it fast."""
    fast = set_up_machine("auto", "auto").compute_dtype == torch.bfloat16
    return ("float32", "bf16") if fast else ("float32",)


def jobs_of(parts: Sequence[str], size: Any, dtypes: Sequence[DtypeName], *, compiled: bool) -> Iterator[Job]:
    """Every cell, in the order in which they are measured."""
    peers = [False, True] if compiled else [False]
    for each in peers if "step" in parts else ():
        for model in MODELS:
            for dtype in dtypes:
                name = f"step {model} {dtype}{' compiled' if each else ''}"
                yield Job(name, "step", partial(step, model, dtype, size, each))
    networks: tuple[ModelName, ...] = ("dit", "mmdit")
    for model in networks if "sampling" in parts else ():
        for dtype in dtypes:
            yield Job(f"sampling {model} {dtype}", "sampling", partial(sampling, model, dtype, size))
    others = {"encode": partial(encode, 64 if size == "XS" else 128), "start": start, "trainer": trainer, "shared": shared}
    for part, work in others.items():
        if part in parts:
            yield Job(part, part, work)


def where(device: torch.device) -> dict[str, Any]:
    """The machine, as every file of figures names it."""
    return {
        "processor": train_step._processor(device),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
    }


def code_here() -> str:
    """A hash of the sources that are measured."""
    root = Path(open_ldm.__file__).parent
    files = sorted(path for folder in (root, Path(__file__).parent) for path in folder.rglob("*.py"))
    return hash_content([hash_file(path) for path in files])[:12]


def begun(file: Path, of: Mapping[str, Any]) -> dict[str, Any]:
    """What the file holds already. Raises SystemExit where that was measured of another size, code or machine."""
    if not file.is_file():
        return {**of, "cells": {}}
    content: dict[str, Any] = json.loads(file.read_text())
    if other := [name for name, value in of.items() if content.get(name) != value]:
        told = ", ".join(f"{name} {content.get(name)} (now {of[name]})" for name in other)
        raise SystemExit(f"error: {file} holds cells of {told}; fix: move it away, or name another --json")
    return content


def run(jobs: Sequence[Job], file: Path, minutes: float, *, refuse_busy: bool, size: str = "S") -> dict[str, Any]:
    """Run what the file does not hold yet, and write it after each cell."""
    content = begun(file, {"size": size, "code": code_here(), "machine": where(torch.device("cpu"))})
    until = time.monotonic() + 60 * minutes
    waiting = [job for job in jobs if "error" in content["cells"].get(job.name, {"error": ""})]
    for number, job in enumerate(waiting):
        left = sum(SHARES[each.part] / sum(other.part == each.part for other in jobs) for each in waiting[number:])
        own = SHARES[job.part] / sum(other.part == job.part for other in jobs)
        seconds = max(0.0, until - time.monotonic()) * own / left
        busy = cores_of_others()
        cell: dict[str, Any] = {"busy_cores": round(busy, 2), "date": datetime.now(UTC).isoformat(timespec="seconds")}
        began = time.perf_counter()
        if refuse_busy and busy > MANY:
            cell["error"] = f"refused: other programs use {busy:.1f} cores; needed: at most {MANY}"
        else:
            try:
                cell |= job.measure(seconds)
            except Exception as error:  # the other cells are measured all the same
                cell["error"] = f"{type(error).__name__}: {error}"[:300]
        cell |= {"took_seconds": round(time.perf_counter() - began, 1)} | ({"marked": "beside others"} if busy > MANY else {})
        content["cells"][job.name] = cell
        write_json(file, content)
        print(f"{job.name}: {cell.get('error') or shown(cell)}", flush=True)
    return content


def shown(cell: Mapping[str, Any]) -> str:
    """A cell in a line."""
    mark = f"  BESIDE {cell['busy_cores']:.1f} BUSY CORES" if cell.get("marked") else ""
    if isinstance(ratio := cell.get("ratio"), list):
        sides = ", ".join(f"{name} {spread[1]:.3g} s" for name, spread in cell["seconds"].items())
        return f"{sides}; ratio {ratio[1]:.2f} [{ratio[0]:.2f}, {ratio[2]:.2f}]{mark}"
    if isinstance(ratio, float):
        ours = cell["ours"]
        share = f"{ours['gflops_per_second']:.0f} GFLOP/s, {ours['share_of_reachable']:.0%} of the reachable"
        return f"ratio {ratio:.2f}, {share}{mark}"
    if "whole_seconds" in cell:
        share = cell["samples_per_second"][1] / cell["updates_alone_per_second"]
        return f"{cell['samples_per_second'][1]:.0f} samples/s, {share:.2f} of its updates alone{mark}"
    return "measured" + mark


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every cell that the file lacks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=Path("bench.json"))
    parser.add_argument("--minutes", type=float, default=14.0, help="in all, about")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--size", choices=["XS", "S", "B"], default="S")
    parser.add_argument("--dtypes", nargs="+", choices=["float32", "bf16"], help="bf16 only where it is fast, by default")
    parser.add_argument("--compiled", action="store_true", help="also the peer compiled by torch, which takes minutes a cell")
    parser.add_argument("--refuse-busy", action="store_true", help="leave a cell out while others use more than half a core")
    given = parser.parse_args(arguments)
    if not 0 < given.minutes < math.inf:
        parser.error("--minutes needs a number above 0")
    jobs = list(jobs_of(given.parts, given.size, given.dtypes or dtypes_here(), compiled=given.compiled))
    run(jobs, given.json, given.minutes, refuse_busy=given.refuse_busy, size=given.size)


if __name__ == "__main__":
    main()
