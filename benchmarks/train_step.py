"""Training steps per second, open-ldm against diffusers: forward + loss + backward + AdamW.

    python benchmarks/train_step.py                       # all models of size S/2, float32 and bf16, latents 4x32x32, batch 8
    python benchmarks/train_step.py --models mmdit --dtypes bf16 --steps 40 --json step.json

The two sides take turns, step by step, in one process: clocks drift by 15-25 % between runs, so only the ratio of
neighbouring steps says anything. See benchmarks/README.md for what is and is not compared.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles

import diffusers
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from contender import MODELS, Comparison, Contender, ModelName, Setting, Size
from contenders import build
from figures import processor
from open_ldm.core.device import DeviceName, DtypeName, set_up_machine
from open_ldm.core.others import MANY, cores_of_others
from reach import reachable_speed, shapes_of

WARM_UP_STEPS = 3
LEAST_ROUNDS = 2


@dataclass(frozen=True)
class Timing:
    """Seconds per step of one side. `gflops_per_second`: of its products; `share_of_reachable`: of what this machine reaches at
    the shapes of our network (benchmarks/reach.py)."""

    parameters: int
    median_seconds: float
    lower_quartile_seconds: float
    upper_quartile_seconds: float
    pictures_per_second: float
    gflops_per_second: float
    share_of_reachable: float


@dataclass(frozen=True)
class Cell:
    """One model in one dtype. `work`: operations of our step over the peer's where the networks differ, else 1.
    `ratio`: `work` x the peer's median / ours, above 1 where open-ldm is faster. `peer_as`: as shipped, or compiled.
    `busy_cores`: of other programs, before it began."""

    model: str
    dtype: str
    batch: int
    side: int
    steps: int
    ours: Timing
    peer: Timing
    work: float
    ratio: float
    peer_as: str = "shipped"
    busy_cores: float = 0.0


@dataclass(frozen=True)
class Report:
    """All cells and where they were measured."""

    date: str
    machine: str
    threads: int
    torch: str
    diffusers: str
    float32_products: str
    cells: tuple[Cell, ...]


def measure(setting: Setting, steps: int, *, seconds: float = math.inf, compiled: bool = False) -> Cell:
    """Alternate both sides for `steps` timed steps each, after a warm-up.

    Args:
        setting: What both share.
        steps: Of each side.
        seconds: No new round begins after so many, but there are at least two.
        compiled: torch compiles the peer's network.
    """
    busy = cores_of_others()
    comparison = build(setting)
    flops = _flops(comparison.ours)
    work = 1.0 if comparison.same_work else flops / _flops(comparison.peer)
    shapes = shapes_of(comparison.ours.network, comparison.ours.loss)
    if compiled:
        comparison.peer.network.compile()
    taken = _take_turns(comparison, steps, setting.device, seconds)
    speed = reachable_speed(shapes, setting.device, setting.dtype)
    ours = _timing(comparison.ours, taken[0], setting.batch, flops, speed)
    peer = _timing(comparison.peer, taken[1], setting.batch, flops / work, speed)
    return Cell(
        model=f"{setting.model}-{setting.size}" + ("" if setting.model == "unet" else "/2"),
        dtype="bf16" if setting.dtype == torch.bfloat16 else "float32",
        batch=setting.batch,
        side=setting.side,
        steps=len(taken[0]),
        ours=ours,
        peer=peer,
        work=work,
        ratio=work * peer.median_seconds / ours.median_seconds,
        peer_as="compiled" if compiled else "shipped",
        busy_cores=round(busy, 2),
    )


def _take_turns(
    comparison: Comparison, steps: int, device: torch.device, most_seconds: float
) -> tuple[list[float], list[float]]:
    ours: list[float] = []
    peer: list[float] = []
    started = time.perf_counter()
    for step in range(WARM_UP_STEPS + steps):
        started = time.perf_counter() if step == WARM_UP_STEPS else started
        if len(ours) >= LEAST_ROUNDS and time.perf_counter() - started > most_seconds:
            break
        for side, taken in ((comparison.ours, ours), (comparison.peer, peer)):
            seconds = _timed(side.step, device)
            if step >= WARM_UP_STEPS:
                taken.append(seconds)
    return ours, peer


def _timed(work: Callable[[], object], device: torch.device) -> float:
    _wait_for(device)
    start = time.perf_counter()
    work()
    _wait_for(device)
    return time.perf_counter() - start


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _timing(side: Contender, seconds: Sequence[float], batch: int, flops: float, reachable: float) -> Timing:
    lower, _, upper = quantiles(seconds, n=4, method="inclusive")
    middle = median(seconds)
    speed = flops / middle
    return Timing(side.parameter_count, middle, lower, upper, batch / middle, speed / 1e9, speed / reachable)


def _flops(side: Contender) -> float:
    """Floating-point operations of the matrix products of one step, attention written out so that it is counted."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        torch.autograd.backward(side.loss())
    for parameter in side.parameters:
        parameter.grad = None
    return float(counter.get_total_flops())


def measure_all(
    models: Sequence[ModelName],
    dtypes: Sequence[DtypeName],
    *,
    size: Size = "S",
    batch: int = 8,
    side: int = 32,
    steps: int = 20,
    device: DeviceName = "auto",
    compiled: bool = False,
    file: Path | None = None,
) -> Report:
    """Every model in every dtype, written into `file` after each. The float32 product precision is process-wide, so the peer
    gets the same one."""
    cells: list[Cell] = []
    for model in models:
        for dtype in dtypes:
            machine = set_up_machine(device, dtype)
            setting = Setting(model, size, batch, side, machine.device, machine.compute_dtype)
            cells.append(measure(setting, steps, compiled=compiled))
            print(line_of(cells[-1]), file=sys.stderr, flush=True)
            if file is not None:
                file.write_text(json.dumps(asdict(report_of(cells, machine.device)), indent=2) + "\n")
    return report_of(cells, machine.device)


def report_of(cells: Sequence[Cell], device: torch.device) -> Report:
    """The cells with where they were measured."""
    return Report(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=_processor(device),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        diffusers=diffusers.__version__,
        float32_products=torch.get_float32_matmul_precision(),
        cells=tuple(cells),
    )


def _processor(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return processor() or device.type


def line_of(cell: Cell) -> str:
    """One comparison for people: medians with quartiles in milliseconds, pictures/s, share of the reachable, ratio."""

    def side(timing: Timing) -> str:
        return (
            f"{timing.median_seconds * 1e3:7.1f} ms [{timing.lower_quartile_seconds * 1e3:.1f}, "
            f"{timing.upper_quartile_seconds * 1e3:.1f}]  {timing.pictures_per_second:6.1f} pictures/s  "
            f"{timing.gflops_per_second:6.1f} GFLOP/s, {timing.share_of_reachable:4.0%} of the reachable  "
            f"{timing.parameters:,} parameters"
        )

    return (
        f"{cell.model} {cell.dtype}  batch {cell.batch}  4x{cell.side}x{cell.side}\n"
        f"  open-ldm   {side(cell.ours)}\n  diffusers  {side(cell.peer)}  {cell.peer_as}\n  ratio {cell.ratio:.2f}"
        + (f" per operation; ours does {cell.work:.2f} times as many" if cell.work != 1 else "")
        + (f"  BESIDE {cell.busy_cores:.1f} BUSY CORES" if cell.busy_cores > MANY else "")
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description="Training steps per second, open-ldm against diffusers.")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--dtypes", nargs="+", choices=["float32", "bf16"], default=["float32", "bf16"])
    parser.add_argument("--size", choices=["XS", "S", "B", "L", "XL"], default="S")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--side", type=int, default=32, help="height and width of the latents")
    parser.add_argument("--steps", type=int, default=20, help="timed steps of each side")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto")
    parser.add_argument("--compiled", action="store_true", help="torch compiles the peer's network")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the report as JSON")
    args = parser.parse_args(arguments)
    report = measure_all(
        args.models,
        args.dtypes,
        size=args.size,
        batch=args.batch,
        side=args.side,
        steps=args.steps,
        device=args.device,
        compiled=args.compiled,
        file=args.json,
    )
    print(
        f"{report.machine}, {report.threads} threads, torch {report.torch}, diffusers {report.diffusers}, "
        f"float32 products {report.float32_products!r} on both sides, {report.date}"
    )
    for cell in report.cells:
        print(line_of(cell))


if __name__ == "__main__":
    main()
