"""How far trainings come apart where equal bits are not promised: threads, processes, micro-batches, number formats.

    python benchmarks/differences.py [--updates 100] [--recipe demo] [KEY=VALUE ...]

Each side is `ldm train` of one recipe in a process of its own, compared with the first one.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from open_ldm.core.events import read_events


@dataclass(frozen=True)
class Side:
    """One way to train: what is added to the command, and the number of threads."""

    name: str
    arguments: tuple[str, ...] = ()
    threads: int = 1


SIDES = (
    Side("one thread"),
    Side("the same again"),
    Side("two threads", threads=2),
    Side("micro-batches of a half", ("training.micro_batch_size=HALF",)),
    Side("two processes", ("--processes", "2")),
    Side("bf16", ("training.dtype=bf16",)),
)


def train(side: Side, recipe: str, changes: Sequence[str], updates: int, batch: int, out: Path) -> None:
    """Train one side. Raises CalledProcessError when it fails."""
    arguments = [argument.replace("HALF", str(batch // 2)) for argument in side.arguments]
    samples = f"training.samples={updates * batch}"
    every = [f"training.batch_size={batch}", f"training.log_every_samples={batch}", samples, "training.device=cpu"]
    every += [f"training.checkpoint_every_samples={updates * batch}", "training.preview_every_samples=0", "data.workers=0"]
    dtype = [] if any("dtype" in argument for argument in arguments) else ["training.dtype=float32"]
    command = [sys.executable, "-m", "open_ldm", "train", recipe, *every, *dtype, *changes, *arguments, "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(side.threads)}
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def losses(run: Path) -> list[float]:
    """The loss of every update."""
    return [float(event.number("loss") or 0) for event in read_events(run / "events.jsonl") if event.name == "train"]


def weights(run: Path) -> torch.Tensor:
    """All weights of the last checkpoint in one row, float64."""
    tensors = load_file(max((run / "checkpoints").iterdir()) / "model.safetensors")
    return torch.cat([tensors[name].double().flatten() for name in sorted(tensors)])


def compare(run: Path, against: Path) -> dict[str, float]:
    """Relative differences: of the first loss, of the largest of all losses, and of the weights in the 2-norm."""
    ours, theirs = losses(run), losses(against)
    apart = [abs(one - other) / abs(other) for one, other in zip(ours, theirs, strict=True)]
    mine, other = weights(run), weights(against)
    return {"first loss": apart[0], "losses": max(apart), "weights": float((mine - other).norm() / other.norm())}


def main() -> None:
    """Train all sides and print a table, and JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="demo")
    parser.add_argument("--updates", type=int, default=100)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sides", nargs="*", choices=[side.name for side in SIDES[1:]], help="By default all.")
    parser.add_argument("changes", nargs="*", metavar="KEY=VALUE")
    given = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        runs = [Path(folder) / str(number) for number in range(len(SIDES))]
        for side, run in zip(SIDES, runs, strict=True):
            if given.sides and side.name not in (SIDES[0].name, *given.sides):
                continue
            train(side, given.recipe, given.changes, given.updates, given.batch, run)
            found[side.name] = compare(run, runs[0])
            shown = "  ".join(f"{name} {value:.1e}" for name, value in found[side.name].items())
            print(f"{side.name:<26}{shown}", flush=True)
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
