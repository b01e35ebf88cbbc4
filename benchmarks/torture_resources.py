"""A machine that behaves badly: is anything lost, and do memory and descriptors stay what they are?

    python benchmarks/torture_resources.py --json resources.json
    python benchmarks/torture_resources.py --parts slow clock

Each part trains a tiny run and compares it with one that nothing disturbed, bit for bit (losses, each update once, hashes):

* `stop`: the process is stopped (SIGSTOP) and continued (SIGCONT), again and again.
* `clock`: the time of day jumps by a day forth, and in another run by a year back, at every 64th question.
* `slow`: every open, flush and rename takes up to 300 ms, as on a network's disk.
* `read-only`: the disk becomes read-only in the middle of training, and of a save; the same command goes on.
* `steps`: resident memory and open descriptors over 30,000 updates of a model that is as small as can be: medians of 3,000
  updates from the first report on (30 s after the start; what draws it is loaded then, 31 MB), and of the last 3,000. Memory
  may grow by 2 %.

Clock and disk are those of `torture_disk.c`, which this compiles and loads before the C library. Linux only, with a C compiler.
A part that is in the JSON file is not done again. The exit code is 1 where anything was lost.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from open_ldm.core.events import read_events
from torture import SMALL, recipe_of
from torture_alone import BATCH, differing

SAMPLES, INTERVAL = 160, 16
STEPS, WINDOW = 30_000, 3_000
MOST_GROWTH = 1.02
CLOCKS = (86_400, -31_536_000)
Found = dict[str, Any]


class Machine:
    """Runs trainings in one folder."""

    def __init__(self, out: Path, steps: int = STEPS) -> None:
        self.steps_wanted = steps
        self.out, self.library = out, out / "torture_disk.so"
        source = Path(__file__).with_name("torture_disk.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", str(self.library), str(source), "-ldl"], check=True)
        training = {"samples": SAMPLES, "batch_size": BATCH, "checkpoint_every_samples": INTERVAL}
        self.recipe = self._written("resources", recipe_of(SMALL, **training))
        self.whole = out / "whole"
        if not (self.whole / "exit.json").is_file():
            assert self.start(self.whole).wait() == 0

    def start(self, run: Path, *changes: str, recipe: Path | None = None, **bad: str) -> subprocess.Popen[bytes]:
        """Start a training; `bad` is what torture_disk.c reads."""
        command = [sys.executable, "-m", "open_ldm", "train", str(recipe or self.recipe), *changes, "--out", str(run)]
        given = {"LD_PRELOAD": str(self.library), **bad} if bad else {}
        return subprocess.Popen(command, env={**os.environ, **given}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def compared(self, run: Path, code: int, **found: Any) -> Found:
        """What became of a run that nothing should have disturbed."""
        wrong = [f"exit code {code}"] if code else differing(self.whole, run)
        return {"ok": not wrong, **found, "wrong": wrong}

    def stop(self) -> Found:
        """Stop and continue."""
        run, draw, stops = self._fresh("stopped"), random.Random(0), 0
        process = self.start(run, "data.workers=1")
        while process.poll() is None and not (run / "events.jsonl").is_file():
            time.sleep(0.05)
        while process.poll() is None:
            time.sleep(draw.uniform(0, 0.5))
            process.send_signal(signal.SIGSTOP)
            time.sleep(draw.choice((0.01, 0.1, 0.5)))
            process.send_signal(signal.SIGCONT)
            stops += 1
        return self.compared(run, process.returncode, stops=stops)

    def clock(self) -> Found:
        """Let the time of day jump."""
        parts = []
        for seconds in CLOCKS:
            run = self._fresh(f"clock{seconds}")
            parts.append(self.compared(run, self.start(run, "data.workers=1", TORTURE_CLOCK=str(seconds)).wait()))
        return {"ok": all(part["ok"] for part in parts), "runs": len(parts), "wrong": [part["wrong"] for part in parts]}

    def slow(self) -> Found:
        """Let the disk take its time."""
        run, started = self._fresh("slow"), time.monotonic()
        bad = {"TORTURE_ROOT": str(self.out), "TORTURE_SLOW_MS": "300"}
        changes = ["data.workers=1", f"cache.path={run}-cache", "data.views=1"]
        whole = self._fresh("slow-whole")
        assert self.start(whole, f"cache.path={whole}-cache", "data.views=1").wait() == 0
        code = self.start(run, *changes, **bad).wait()
        seconds = round(time.monotonic() - started, 1)
        wrong = [f"exit code {code}"] if code else differing(whole, run)
        return {"ok": not wrong, "seconds": seconds, "wrong": wrong}

    def read_only(self) -> Found:
        """Let the disk become read-only, three times."""
        run, flag, codes = self._fresh("read-only"), self.out / "flag", []
        bad = {"TORTURE_ROOT": str(run), "TORTURE_READ_ONLY": str(flag)}
        for moment in ("update", "save", "update"):
            process, before = self.start(run, **bad), self._saves(run)
            while process.poll() is None and not (self._saving(run) if moment == "save" else self._saves(run) > before):
                time.sleep(0.001)
            flag.touch()
            codes.append(process.wait())
            flag.unlink()
        code = self.start(run).wait()
        found = self.compared(run, code, codes=codes)
        return {**found, "ok": found["ok"] and set(codes) == {74}}

    def steps(self) -> Found:
        """Watch memory and descriptors."""
        run, seen = self._fresh("steps"), []
        process = self.start(run, recipe=self._written("steps", self._smallest()))
        log = run / "events.jsonl"
        while process.poll() is None:
            time.sleep(0.5)
            try:
                position = read_events(log)[-1].samples_seen if log.is_file() else 0
                pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
                opened = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
                seen.append((position, pages * os.sysconf("SC_PAGE_SIZE"), opened, (run / "report.html").is_file()))
            except (OSError, IndexError):
                continue
        first = next((at for at, *_, reported in seen if reported), self.steps_wanted) + 200
        places = {"after the first report": first, "at the end": self.steps_wanted - WINDOW}
        memory = {
            f"{name} (update {low:,})": median(size for at, size, *_ in seen if low <= at < low + WINDOW)
            for name, low in places.items()
        }
        handles = sorted({count for at, _, count, _ in seen if first <= at < self.steps_wanted})
        before, after = memory.values()
        growth = after / before
        shown = {name: f"{size / 1e6:.1f} MB" for name, size in memory.items()}
        ok = process.returncode == 0 and growth <= MOST_GROWTH and handles[-1] - handles[0] <= 2  # a file that is being written
        return {"ok": ok, "memory": shown, "growth": round(growth, 4), "descriptors": handles, "code": process.returncode}

    def _smallest(self) -> Found:
        smallest = {"kind": "dit", "size": "XS", "patch": 4, "depth": 1, "width": 16, "heads": 1}
        training = {"samples": self.steps_wanted, "batch_size": 1, "log_every_samples": 50, "checkpoint_every_samples": 2_500}
        recipe = recipe_of(smallest, **training)
        recipe["conditioning"] = {"semantic": {"kind": "none"}, "controls": []}
        recipe["data"]["transform"] = {"size_px": 8}
        return recipe

    def _written(self, name: str, recipe: Found) -> Path:
        path = self.out / f"{name}.yaml"
        path.write_text(yaml.safe_dump(recipe))
        return path

    def _fresh(self, name: str) -> Path:
        run = self.out / name
        for path in (run, Path(f"{run}-cache")):
            shutil.rmtree(path, ignore_errors=True)
        return run

    @staticmethod
    def _saves(run: Path) -> int:
        return len(list((run / "checkpoints").glob("samples-*"))) and int(max((run / "checkpoints").glob("samples-*")).name[8:])

    @staticmethod
    def _saving(run: Path) -> bool:
        return any((run / "checkpoints").glob(".tmp-*"))


def main() -> int:
    """Do all parts; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("stop", "clock", "slow", "read-only", "steps")
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--out", type=Path, help="working folder; a temporary one by default")
    parser.add_argument("--steps", type=int, default=STEPS, help="updates of the part of that name")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    table: dict[str, Found] = json.loads(given.json.read_text()) if given.json and given.json.is_file() else {}
    out = given.out or Path(tempfile.mkdtemp(prefix="torture-"))
    out.mkdir(parents=True, exist_ok=True)
    machine = Machine(out.resolve(), given.steps)
    for part in given.parts:
        if part not in table:
            table[part] = getattr(machine, part.replace("-", "_"))()
            if given.json:
                given.json.write_text(json.dumps(table, indent=1) + "\n")
        print(f"{'holds' if table[part]['ok'] else 'FAILS'} | {part} | {json.dumps(table[part])}", flush=True)
    return int(not all(each["ok"] for each in table.values()))


if __name__ == "__main__":
    sys.exit(main())
