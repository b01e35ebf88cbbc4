"""How near `ldm plan` comes to what training then takes: memory of the process, and time, for ten recipes on this machine.

    python benchmarks/plan_accuracy.py --json plan.json            # three turns: plan, train, plan, train ...
    python benchmarks/plan_accuracy.py --turns 1 --processor       # on a busy machine: processor time, not the clock's

Each turn is a process of its own. Both sides have the recipe's model; data are drawn shapes, batches are small so that ten
recipes take minutes. Wanted: memory within 15 % of the most that was resident, pictures a second within 25 % in the median.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import open_ldm  # noqa: F401  (before torch: it sets how threads wait, and both sides must wait alike)

RECIPES = (
    "demo",
    "demo-improved",
    "shapes-text",
    "cifar10-dit",
    "cifar10-mmdit",
    "cifar10-mdtv2",
    "cifar10-pixart",
    "cifar10-unet",
    "photos-dit",
    "emoji-mmdit",
)
UPDATES = 8
"""Of which the first half is not timed."""


@dataclass(frozen=True)
class Row:
    """A recipe's figures: medians over the turns."""

    recipe: str
    planned_bytes: float
    taken_bytes: float
    planned_per_second: float
    reached_per_second: float

    @property
    def memory(self) -> float:
        """Planned over taken."""
        return self.planned_bytes / self.taken_bytes

    @property
    def hours(self) -> float:
        """Planned over needed time."""
        return self.reached_per_second / self.planned_per_second


def changes(batch: int) -> list[str]:
    """What makes a recipe small enough."""
    return [
        "data.source={kind: shapes, length: 256}",
        "data.holdout=null",
        "data.workers=0",
        "held_out=null",
        "latent_stats={kind: measured, pictures: 16}",
        f"training.batch_size={batch}",
        f"training.samples={UPDATES * batch}",
        f"training.log_every_samples={UPDATES * batch // 2}",
        f"training.checkpoint_every_samples={UPDATES * batch}",
        "training.optimizer.warmup_samples=0",
        "training.preview_every_samples=0",
        "preview.count=1",
    ]


def plan_side(name: str, batch: int) -> dict[str, float]:
    """What the plan says."""
    from open_ldm.commands.dry_run import dry_run
    from open_ldm.commands.plan import plan
    from open_ldm.runs.recipe import load_recipe

    found = plan(dry_run(load_recipe(name, changes(batch))))
    return {"bytes": found.memory.total(found.micro_batch), "per_second": found.speed.samples_per_second}


def train_side(name: str, batch: int) -> dict[str, float]:
    """What training takes."""
    import torch

    from open_ldm.core.device import most_memory
    from open_ldm.core.events import read_events
    from open_ldm.runs.recipe import load_recipe
    from open_ldm.runs.train import train

    with tempfile.TemporaryDirectory() as folder:
        train(load_recipe(name, changes(batch)), Path(folder) / "run", silent=True)
        events = [event for event in read_events(Path(folder) / "run" / "events.jsonl") if event.name == "train"]
    return {"bytes": most_memory(torch.device("cpu")) or 0, "per_second": events[-1].number("samples_per_second") or 0.0}


def turn(side: str, name: str, args: argparse.Namespace) -> dict[str, float]:
    """One side in a process of its own."""
    command = [sys.executable, __file__, "--side", side, "--recipes", name, "--batch", str(args.batch)]
    done = subprocess.run([*command, *(["--processor"] if args.processor else [])], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{side} of {name} failed: {done.stderr[-500:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def row(name: str, args: argparse.Namespace) -> Row:
    """Both sides in turns."""
    plans, trainings = [], []
    for _ in range(args.turns):
        plans.append(turn("plan", name, args))
        trainings.append(turn("train", name, args))
    sides = [[median(one[key] for one in side) for key in ("bytes", "per_second")] for side in (plans, trainings)]
    return Row(name, sides[0][0], sides[1][0], sides[0][1], sides[1][1])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure recipe by recipe, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--processor", action="store_true", help="count processor seconds, which a busy machine changes less")
    parser.add_argument("--side", choices=["plan", "train"], help="one side of one recipe, as JSON")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args(arguments)
    if args.processor:
        time.perf_counter = time.process_time
    if args.side:
        print(json.dumps((plan_side if args.side == "plan" else train_side)(args.recipes[0], args.batch)))
        return
    rows: list[Row] = []
    for name in args.recipes:
        rows.append(one := row(name, args))
        print(
            f"{name:>16}  memory {one.planned_bytes / 1e6:7.0f} of {one.taken_bytes / 1e6:7.0f} MB ({one.memory:.2f})"
            f"  pictures/s {one.planned_per_second:7.2f} of {one.reached_per_second:7.2f} (time {one.hours:.2f})",
            flush=True,
        )
        if args.json:
            content: list[dict[str, Any]] = [{**asdict(each), "memory": each.memory, "hours": each.hours} for each in rows]
            args.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
