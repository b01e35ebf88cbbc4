"""Runs under torture: do they compute what they should, and what becomes of them when they are killed?

    python benchmarks/torture.py alone --out /tmp/torture                # 120 cells of one process, each killed twice
    python benchmarks/torture.py ranks                                   # several processes; hours on a busy machine
    python benchmarks/torture.py ranks --parts matrix memory --json torture.json
    python benchmarks/torture.py ranks --parts kills --kills 8 --rounds 7

`alone` (torture_alone.py) kills a run of one process and compares it with a run in one go, bit for bit.

`ranks`: processes of one thread each on the CPUs of this machine, by gloo; toy sizes. Parts:

* `matrix`: five denoisers train with DDP and FSDP2 on 1 to 4 processes (on 4 with HSDP too), save, and go on; each state is
  loaded with each of these. Losses are compared with those of one process, tensors bit for bit.
* `kills`: a process of two is killed (SIGKILL) at random moments, half of them within a save, and torchrun starts the run
  again. It must end as a run in one go does, losses and tensors bit for bit, and lose no more than one interval between
  checkpoints to a kill; within a save in the background, what was done while that went on, too.
* `saves`: how long training waits for a save in the background, as a share of what a synchronous one takes.
* `disagree`: eight ways in which processes differ: all must end with the same line.
* `stop`: one process is stopped (SIGSTOP); the others must name it.
* `memory`: bytes for each parameter at the peak, beyond what a process has before its model is built.

A cell that is in the JSON file already is not run again, so that a long torture can be cut in pieces. The exit code is 1
where a cell did not hold.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from open_ldm.checkpoints.checkpoint import CheckpointFolder
from open_ldm.training.state import Counters
from torture_alone import cells, kill_cell
from torture_kills import kill, stop
from torture_worker import run_rank

PARTS = ("matrix", "kills", "saves", "disagree", "stop", "memory")
SHARED = ((1, "one"), *((size, mode) for size in (2, 3, 4) for mode in ("ddp", "fsdp")), (4, "hsdp"))
"""Numbers of processes, and how they share a model."""
BATCH = 12
INTERVAL = 40
SIZE = {"size": "XS", "patch": 4, "depth": 2, "width": 32, "heads": 2}
DENOISERS: dict[str, dict[str, Any]] = {
    "dit": SIZE,
    "mmdit": SIZE,
    "pixart": SIZE,
    "mdtv2": {**SIZE, "depth": 3, "decode_layers": 1},
    "unet": {"size": "XS", "model_channels": 16, "multipliers": [1, 2], "attention_factors": [2], "groups": 4},
}
LARGE = {"kind": "dit", "size": "XS", "patch": 8, "depth": 28, "width": 256, "heads": 4}
"""As deep as DiT-XL: a block is a small part of it."""
SMALL = {"kind": "dit", **SIZE}
ACTIVATIONS = 1.0
"""Bytes of a parameter that activations, and buffers that are sent, may take besides."""
Cell = dict[str, Any]


def recipe_of(denoiser: dict[str, Any], **training: Any) -> dict[str, Any]:
    """A recipe that trains in seconds on shapes of 16 x 16."""
    return {
        "name": "torture",
        "data": {"source": {"kind": "shapes", "length": 60}, "transform": {"size_px": 16, "flip": 0.5}, "workers": 0},
        "latent_stats": {"kind": "measured", "pictures": 16},
        "conditioning": {
            "semantic": {"kind": "text", "encoder": {"kind": "words", "length": 10, "width": 16}},
            "controls": [{"kind": "original_size"}, {"kind": "crop"}, {"kind": "flip"}],
        },
        "denoiser": denoiser,
        "training": {
            "samples": 25 * BATCH,
            "batch_size": BATCH,
            "optimizer": {"learning_rate": 0.001},
            "device": "cpu",
            "dtype": "float32",
            "log_every_samples": 4,
            "checkpoint_every_samples": 10_000,
            **training,
        },
        "preview": {"count": 2},
        "sampling": {"steps": 2},
    }


class Torture:
    """Runs cells, and keeps what each found in a JSON file as soon as it is done."""

    def __init__(self, out: Path, table: Path) -> None:
        self.out, self.table = out, table
        out.mkdir(parents=True, exist_ok=True)
        self.cells: dict[str, Cell] = json.loads(table.read_text()) if table.is_file() else {}

    def cell(self, name: str, run: Callable[[], Cell]) -> Cell:
        if name not in self.cells:
            started = time.monotonic()
            found = {**run(), "minutes": round((time.monotonic() - started) / 60, 2), "date": time.strftime("%Y-%m-%d")}
            self.cells[name] = found
            self.table.write_text(json.dumps(self.cells, indent=1))
        found = self.cells[name]
        shown = {key: value for key, value in found.items() if key not in ("raw", "date", "ok")}
        print(f"{'holds' if found['ok'] else 'FAILS'} | {name} | {json.dumps(shown)}", flush=True)
        return found

    def recipe(self, name: str, denoiser: dict[str, Any], **training: Any) -> str:
        """Write a recipe; returns where it lies."""
        path = self.out / f"{name}.yaml"
        path.write_text(yaml.safe_dump(recipe_of(denoiser, **training)))
        return str(path)

    def ranks(self, what: str, size: int, **job: Any) -> list[dict[str, Any]]:
        """What each of so many processes of `torture_worker.py` found."""
        at = self.out / f"{what}-{size}.json"
        at.write_text(json.dumps({"out": str(self.out), **job}))
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = str(listener.getsockname()[1])
        world = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
        found = self.out / f"{what}-{size}-found.json"
        forked = multiprocessing.get_context("forkserver")
        forked.set_forkserver_preload(["tests.preloaded"])
        processes = [forked.Process(target=run_rank, args=(rank, world, what, at, found)) for rank in range(size)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(3600)
        if any(process.exitcode for process in processes):
            raise RuntimeError(f"{what} on {size} failed")
        return [json.loads(found.with_suffix(f".{rank}.json").read_text()) for rank in range(size)]

    def matrix(self, before: int, updates: int) -> None:
        recipes = {name: self.recipe(name, {"kind": name, **shape}) for name, shape in DENOISERS.items()}
        job = {"recipes": recipes, "before": before, "updates": updates}
        states = {}
        for size, mode in SHARED:
            found = self.cell(f"train with {mode} on {size}", partial(self._trained, size, {**job, "mode": mode}))
            states |= {f"{mode}-{size} {name}": each for name, each in found["raw"].items()}
        job["saved"] = [f"{mode}-{size}" for size, mode in SHARED]
        for size, mode in SHARED:
            self.cell(f"load with {mode} on {size}", partial(self._loaded, size, {**job, "mode": mode}, states, before))

    def _trained(self, size: int, job: Cell) -> Cell:
        found = self.ranks("save", size, **job)
        alone = found[0] if size == 1 else self.cells["train with one on 1"]["raw"]
        first, worst = 0.0, 0.0
        for name, each in found[0].items():
            off = [abs(a / b - 1) for a, b in zip(each["losses"][:20], alone[name]["losses"][:20], strict=True)]
            first, worst = max(first, off[0]), max(worst, *off)
        alike = all(other == found[0] for other in found)
        pickles = [path for path in self.out.rglob("*") if path.name == ".metadata" or path.suffix in (".pt", ".distcp")]
        ok = first <= 1e-6 and worst <= 1e-5 and alike and not pickles
        return {"ok": ok, "trainings": len(found[0]), "first_loss_off": first, "20_losses_off": worst, "raw": found[0]}

    def _loaded(self, size: int, job: Cell, states: dict[str, Any], before: int) -> Cell:
        found = self.ranks("load", size, **job)
        tensors = [state for state, each in found[0].items() if each["hashes"] != states[state]["hashes"]]
        same = [state for state, each in found[0].items() if len(each["losses"]) > 1]
        alike = [state for state in same if found[0][state]["losses"] == states[state]["losses"][before:]]
        off = [abs(each["losses"][0] / states[state]["losses"][before] - 1) for state, each in found[0].items()]
        return {
            "ok": not tensors and alike == same and max(off) <= 1e-5 and all(other == found[0] for other in found),
            "loads": len(found[0]),
            "tensors_differ": sorted(tensors),
            "went_on_alike": len(alike),
            "of": len(same),
            "next_loss_off": max(off),
        }

    def kills(self, kills: int, rounds: int) -> None:
        changes = {"batch_size": 4, "samples": 100 * kills, "checkpoint_every_samples": INTERVAL}
        recipe = Path(self.recipe("kills", SMALL, **changes))
        for number in range(rounds):
            mode = ("fsdp", "ddp")[number % 2]
            self.cell(f"kills of {mode}, round {number}", partial(self._killed, recipe, mode, kills, number))

    def _killed(self, recipe: Path, mode: str, kills: int, number: int) -> Cell:
        found = kill(recipe, mode, 2, kills, self.out, number)
        good = found["kills"] and not found["differing"] and not found["code"]
        # Within a save in the background training goes on, by one more interval at most: the next save waits for it.
        kept = found["most_lost_outside"] <= INTERVAL and found["most_lost_inside"] <= 2 * INTERVAL
        return {"ok": bool(good) and kept, **found}

    def saves(self) -> None:
        recipes = {"large": self.recipe("saves", LARGE, batch_size=4)}
        for mode, size in (("fsdp", 2), ("one", 1)):
            self.cell(f"saves {mode} on {size}", partial(self._saved, recipes, mode, size))

    def _saved(self, recipes: dict[str, str], mode: str, size: int) -> Cell:
        found = self.ranks("saves", size, recipes=recipes, mode=mode, rounds=3)
        worst = max(found, key=lambda each: float(each["share"]))
        return {"ok": worst["share"] <= 0.05, **worst}

    def disagree(self) -> None:
        recipe = self.recipe("disagree", SMALL, batch_size=12)
        for rank in range(2):
            folder = self.out / f"pictures-{rank}"
            folder.mkdir(exist_ok=True)
            numbers = np.random.default_rng(rank)
            for index in range(6):
                Image.fromarray(numbers.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(folder / f"{index}.png")
            tensors = {group: {"x": torch.full((2,), float(rank))} for group in ("model", "ema", "optimizer")}
            CheckpointFolder(self.out / f"checkpoints-{rank}").save(
                8, tensors, {"counters": asdict(Counters(8, 2)), "fingerprint": {}}
            )
        for size in (2, 3):
            self.cell(f"disagree on {size}", partial(self._disagreed, size, recipe))

    def _disagreed(self, size: int, recipe: str) -> Cell:
        found = self.ranks("disagree", size, recipes={"dit": recipe})
        lines = {case: {each[case]["line"] for each in found} for case in found[0]}
        seconds = max(each[case]["seconds"] for each in found for case in each)
        alike = all(len(each) == 1 and "nothing" not in each for each in lines.values())
        raw = {case: sorted(each) for case, each in lines.items()}
        return {"ok": alike and seconds <= 10 and len(lines) == 8, "cases": len(lines), "slowest_seconds": seconds, "raw": raw}

    def stop(self) -> None:
        changes = {"batch_size": 4, "samples": 40_000, "checkpoint_every_samples": 40_000}
        recipe = Path(self.recipe("stop", SMALL, **changes))
        for mode in ("ddp", "fsdp"):
            for rank in range(2):
                self.cell(f"stop {mode} rank {rank}", partial(self._stopped, recipe, mode, rank))

    def _stopped(self, recipe: Path, mode: str, rank: int) -> Cell:
        found = stop(recipe, mode, rank, self.out)
        return {"ok": f"rank {rank} on" in found["reason"] and "stopped by a signal" in found["reason"], **found}

    def alone(self, kills: int, rounds: int) -> None:
        """Kill a run of one process in every cell; each round is another set of moments."""
        for number, (round_number, cell) in enumerate(product(range(rounds), cells(list(DENOISERS)))):
            found = partial(kill_cell, cell, partial(self._of_cell, cell.denoiser), self.out, kills, number)
            self.cell(f"alone, round {round_number}: {cell.name}", found)
        total = Counter[str]()
        for each in self.cells.values():
            total.update({name: each.get(name, 0) for name in ("kills", "inside a save", "after a checkpoint", "ended before")})
        print(f"{dict(total)}, cells that did not hold: {sum(not each['ok'] for each in self.cells.values())}")

    def _of_cell(self, denoiser: str, name: str, changes: dict[str, Any]) -> str:
        given = recipe_of({"kind": denoiser, **DENOISERS[denoiser]}, **changes["training"])
        path = self.out / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**given, **changes, "training": given["training"]}))
        return str(path)

    def memory(self) -> None:
        recipes = {
            name: self.recipe(f"memory-{name}", shape, batch_size=4) for name, shape in (("small", SMALL), ("large", LARGE))
        }
        for mode, size, most in (("one", 1, 20), ("ddp", 2, 20), ("fsdp", 2, 11), ("fsdp", 4, 6)):
            self.cell(f"memory {mode} on {size}", partial(self._measured, recipes, mode, size, most))

    def _measured(self, recipes: dict[str, str], mode: str, size: int, most: int) -> Cell:
        found = self.ranks("memory", size, recipes=recipes, mode=mode, updates=3)
        worst = {key: round(max(each[key] for each in found), 2) for key in found[0]}
        return {"ok": worst["train"] <= most + ACTIVATIONS, "wanted": most, **worst}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["alone", "ranks"])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--before", type=int, default=5, help="updates before each state of the matrix is saved")
    parser.add_argument("--updates", type=int, default=25, help="updates of each training of the matrix")
    parser.add_argument("--kills", type=int, help="in each round; 2 for alone, 10 for ranks")
    parser.add_argument("--rounds", type=int, help="of kills; 1 for alone, 5 for ranks")
    parser.add_argument("--out", type=Path, help="working folder; a temporary one by default")
    parser.add_argument("--json", type=Path, default=Path("torture.json"))
    given = parser.parse_args(arguments)
    torture = Torture(given.out or Path(tempfile.mkdtemp(prefix="torture-")), given.json)
    if given.what == "alone":
        torture.alone(given.kills or 2, given.rounds or 1)
    for part in given.parts if given.what == "ranks" else ():
        numbers = {"kills": (given.kills or 10, given.rounds or 5), "matrix": (given.before, given.updates)}.get(part, ())
        getattr(torture, part)(*numbers)
    return int(not all(cell["ok"] for cell in torture.cells.values()))


if __name__ == "__main__":
    sys.exit(main())
