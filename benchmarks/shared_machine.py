"""Training beside another busy process: what the waiting of threads costs, quiet and shared, side by side.

    python benchmarks/shared_machine.py --json shared.json                  # 15 rounds, about 6 minutes, on a quiet machine
    python benchmarks/shared_machine.py --rounds 3 --seconds 1              # does it run?
    python benchmarks/shared_machine.py --spins 0 1000 5000 --rounds 5      # other lengths of the wait

Each side is a whole `ldm train demo` in a process of its own, with as many threads as it takes by itself: `as torch is` spins
300,000 rounds at a barrier, as GNU's OpenMP does by default, `ldm` as open_ldm sets it where nothing else runs when it begins,
`ldm beside` where the neighbour does. One of them runs at a time and the
others sleep between two updates. A round measures every side quiet and beside the neighbour, a loop in Python, in an order
that changes from round to round. Printed are samples per second in the median, and of the ratios within a round the median
with the interval in which it lies with 95 % confidence (by ranks). `others` is what all other programs took of the processors
meanwhile, in cores: with more than 0.1 the figures say little.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import open_ldm  # noqa: F401  (before torch: it sets how threads wait)

AS_TORCH_IS, OURS, BESIDE = "as torch is", "ldm", "ldm beside"
DEFAULT_SPINS = 300_000
NEIGHBOUR = "while True:\n    pass"
TICKS = os.sysconf("SC_CLK_TCK")
UNSET = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "LDM_THREADS")


@dataclass
class Side:
    """A training that waits for its turn."""

    name: str
    spins: int | None
    process: subprocess.Popen[str]
    threads: int = 0
    rates: dict[str, list[float]] = field(default_factory=lambda: {"quiet": [], "shared": []})

    def measure(self, seconds: float) -> float:
        """Samples per second of the next `seconds`."""
        assert self.process.stdin is not None and self.process.stdout is not None
        print(seconds, file=self.process.stdin, flush=True)
        samples, took = map(float, self.process.stdout.readline().split())
        return samples / took


def train_by_turns(run: Path, batch: int) -> None:
    """The process of a side: a training whose updates wait for a line with seconds, and answer with samples and seconds."""
    import torch

    from open_ldm.runs.recipe import load_recipe
    from open_ldm.runs.train import train
    from open_ldm.training.trainer import DiffusionTrainer

    update, samples, began, until = DiffusionTrainer.update, 0, 0.0, 0.0

    def timed(trainer: DiffusionTrainer, micro_batches: Any) -> Any:
        nonlocal samples, began, until
        while (now := time.perf_counter()) >= until:
            print(*([samples, now - began] if until else [torch.get_num_threads()]), flush=True)
            if not (line := sys.stdin.readline()):
                os._exit(0)
            samples, began = 0, time.perf_counter()
            until = began + float(line)
        samples += trainer.config.batch_size
        return update(trainer, micro_batches)

    DiffusionTrainer.update = timed  # type: ignore[method-assign]
    never = [f"training.{name}_samples=1000000000" for name in ("log_every", "preview_every", "checkpoint_every")]
    train(load_recipe("demo", ["training.samples=1000000000", f"training.batch_size={batch}", *never]), run, silent=True)


def start(name: str, spins: int | None, folder: Path, batch: int) -> Side:
    """Start a side; it has begun to train when this returns."""
    environment = {key: value for key, value in os.environ.items() if key not in UNSET}
    environment |= {} if spins is None else {"GOMP_SPINCOUNT": str(spins)}
    process = subprocess.Popen(
        [sys.executable, __file__, "--side", str(folder / name), "--batch", str(batch)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    side = Side(name, spins, process)
    side.threads = int(process.stdout.readline() or 0)
    return side


def processor_seconds(sessions: set[int]) -> tuple[float, float]:
    """Seconds of processor time that everything has taken so far, and that processes of these sessions have."""
    busy = [int(count) for count in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    ours = 0
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) in sessions:
            ours += int(fields[11]) + int(fields[12])
    return (sum(busy) - busy[3] - busy[4]) / TICKS, ours / TICKS  # without idle and waiting for disks


def neighbour_started() -> subprocess.Popen[bytes]:
    """Start the busy process."""
    return subprocess.Popen([sys.executable, "-c", NEIGHBOUR], start_new_session=True)


def measured(side: Side, seconds: float, *, shared: bool) -> dict[str, float]:
    """One measurement: samples per second, and how many cores all other programs had."""
    neighbour = neighbour_started() if shared else None
    try:
        time.sleep(0.3)  # it has begun, or the one before has ended
        sessions = {side.process.pid, *([neighbour.pid] if neighbour else [])}
        before, started = processor_seconds(sessions), time.perf_counter()
        rate = side.measure(seconds)
        after, took = processor_seconds(sessions), time.perf_counter() - started
    finally:
        if neighbour is not None:
            neighbour.kill()
            neighbour.wait()
    return {"rate": rate, "others": max(0.0, (after[0] - before[0] - after[1] + before[1]) / took)}


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, and the interval between two ranks that holds the true one with at least 95 % confidence where there are six."""
    ordered, count = sorted(values), len(values)
    reach = 0
    while reach + 1 < count / 2 and sum(math.comb(count, k) for k in range(reach + 1)) / 2**count <= 0.025:
        reach += 1
    low = max(0, reach - 1)
    return median(ordered), ordered[low], ordered[count - 1 - low]


def compare(sides: Sequence[Side], rounds: int, seconds: float, others: list[float]) -> None:
    """Measure round by round."""
    cells = [(side, shared) for side in sides for shared in (False, True)]
    for number in range(rounds):
        turned = cells[number % len(cells) :] + cells[: number % len(cells)]
        for side, shared in turned if number % 2 else turned[::-1]:
            found = measured(side, seconds, shared=shared)
            side.rates["shared" if shared else "quiet"].append(found["rate"])
            others.append(found["others"])


def report(sides: Sequence[Side], others: Sequence[float]) -> dict[str, Any]:
    """Figures of all sides, as plain data."""
    first, found = sides[0], {}
    for side in sides:
        quiet, shared = side.rates["quiet"], side.rates["shared"]
        found[side.name] = {
            "threads": side.threads,
            "rates": side.rates,
            **{name: [round(each, 1) for each in quantiles(rates, n=4)] for name, rates in side.rates.items()},
            "shared_of_quiet": [round(each, 3) for each in interval([b / a for a, b in zip(quiet, shared, strict=True)])],
            "quiet_of_first": [
                round(each, 3) for each in interval([b / a for a, b in zip(first.rates["quiet"], quiet, strict=True)])
            ],
        }
    return {"others_cores": round(median(others), 2), "most_others_cores": round(max(others), 2), "sides": found}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all sides, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--spins", type=int, nargs="*", default=(), help="more sides, by rounds of waiting")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--side", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.side:
        return train_by_turns(args.side, args.batch)
    if args.rounds < 2:
        parser.error("quartiles need two rounds")
    wanted = [(AS_TORCH_IS, DEFAULT_SPINS), (OURS, None), (BESIDE, None), *((f"spin {count}", count) for count in args.spins)]
    sides, others = list[Side](), list[float]()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))  # the sides end too
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            for name, spins in wanted:
                neighbour = neighbour_started() if name == BESIDE else None
                try:
                    sides.append(start(name, spins, Path(folder), args.batch))
                finally:
                    if neighbour is not None:
                        neighbour.kill()
                        neighbour.wait()
                print(f"{name}: started, {sides[-1].threads} threads", file=sys.stderr, flush=True)
            compare(sides, args.rounds, args.seconds, others)
        finally:
            for side in sides:
                os.killpg(side.process.pid, signal.SIGKILL)
                side.process.wait()
    found = report(sides, others)
    for name, row in found["sides"].items():
        print(
            f"{name:>12}  {row['threads']} threads  quiet {row['quiet'][1]:6.1f} samples/s  shared {row['shared'][1]:6.1f}"
            f"  shared/quiet {row['shared_of_quiet']}  quiet against {AS_TORCH_IS} {row['quiet_of_first']}"
        )
    print(f"others: {found['others_cores']} cores in the median, {found['most_others_cores']} at the most")
    if args.json:
        args.json.write_text(json.dumps(found, indent=2) + "\n")
    return None


if __name__ == "__main__":
    main()
