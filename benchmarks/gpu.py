"""Cells of benchmarks/gpu.sh: first whether trainings on the device are right, then how fast they are.

    python benchmarks/gpu.py --out gpu-results               # all cells, eight minutes at most
    python benchmarks/gpu.py --out /tmp/toy --device cpu --toy --cells truth/dit

RESULTS.json is written anew after every cell. A cell that fails says so in its place and stops no other; one for which no time
is left is named as left out. Goals, in share of the measured peak at 8192^3: XL/2 40 %, B/2 30 %, S/2 22 %, and 1.2 times
diffusers' class compiled the same way; encoding 1,000 pictures/s at 256 px; FSDP2 on one device 95 % of plain.
"""

from __future__ import annotations

import argparse
import gc
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from open_ldm.core.device import set_up_machine
from open_ldm.core.files import write_json
from open_ldm.core.peak import matrix_speed
from open_ldm.core.plain_data import parse_json

LIMIT_SECONDS = 480.0
ONCE_MORE_SECONDS = 2.0


@dataclass(frozen=True)
class Where:
    """What all cells share: the device, a folder, and whether everything is small."""

    device: torch.device
    out: Path
    toy: bool


@dataclass(frozen=True)
class Cell:
    """One measurement, and about how many seconds it takes on a GPU."""

    name: str
    seconds: float
    measure: Callable[[Where], Mapping[str, Any]]


class Results:
    """Figures by cell, in a file that is written anew after each; `go_on`: those that the file has are kept."""

    def __init__(self, file: Path, *, go_on: bool = False) -> None:
        self.file = file
        self.found: dict[str, Any] = parse_json(file.read_text(encoding="utf-8")) if go_on and file.is_file() else {}

    def done(self, name: str) -> bool:
        """Whether a cell has its figures: it neither failed nor was left out."""
        return name in self.found and not {"failed", "left_out"} & set(self.found[name])

    def add(self, name: str, content: Mapping[str, Any]) -> None:
        """Keep, write and show the figures of a cell."""
        self.found[name] = dict(content)
        write_json(self.file, self.found)
        print(name, dict(content), flush=True)


def all_cells() -> list[Cell]:
    """Every cell, the most valuable first."""
    import gpu_speed
    import gpu_truth

    return [Cell("machine", 5, describe), *gpu_truth.cells(), *gpu_speed.cells()]


def describe(where: Where) -> dict[str, Any]:
    """Where this runs, and the best matrix product there, which shares of peak refer to."""
    machine = set_up_machine(where.device.type, "auto")  # type: ignore[arg-type]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": card_of(where.device),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "dtype": str(machine.compute_dtype).removeprefix("torch."),
        "peak_tflops": matrix_speed(machine, side=64 if where.toy else None) / 1e12,
    }


def card_of(device: torch.device) -> str:
    """The name of a GPU, or 'cpu'."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def measured(cell: Cell, where: Where, left: float) -> dict[str, Any]:
    """The figures of a cell and its seconds, or what went wrong, or that too few of the `left` seconds are left for it."""
    if left < cell.seconds:
        return {"left_out": f"{left:.0f} s left"}
    started = time.perf_counter()
    try:
        with ended_after(left):
            found = dict(cell.measure(where))
    except Exception as error:  # a cell must not take the others with it
        traceback.print_exc()
        found = {"failed": f"{type(error).__name__}: {error}"[:500]}
    gc.collect()
    if where.device.type == "cuda":
        torch.cuda.empty_cache()
    return {**found, "seconds": round(time.perf_counter() - started, 2)}


@contextmanager
def ended_after(seconds: float) -> Iterator[None]:
    """Context manager in which a cell that takes longer fails with TimeoutError: the limit holds for a slow compiler too.

    Code that expects an OSError, which it is, may take it for its own: it is raised again until the cell has ended.
    """

    def end(number: int, frame: object) -> None:
        raise TimeoutError("no time is left")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds, ONCE_MORE_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cells within the limit; returns 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--toy", action="store_true", help="networks and batches that a CPU does in seconds")
    parser.add_argument("--cells", nargs="+", help="beginnings of the names of the cells to run; all by default")
    parser.add_argument("--limit", type=float, default=LIMIT_SECONDS, help="seconds for everything")
    args = parser.parse_args(arguments)
    started, where = time.perf_counter(), Where(torch.device(args.device), args.out, args.toy)
    args.out.mkdir(parents=True, exist_ok=True)
    results = Results(args.out / "RESULTS.json")
    for cell in all_cells():
        if args.cells and not cell.name.startswith(tuple(args.cells)):
            continue
        left = args.limit - (time.perf_counter() - started)
        results.add(cell.name, measured(cell, where, left))
    return int(any("failed" in found for found in results.found.values()))


if __name__ == "__main__":
    sys.exit(main())
