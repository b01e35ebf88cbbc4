"""The claim about the size control and one class-conditional model, on one GPU in ten minutes.

    python benchmarks/gpu_paper.py --out gpu-results/paper                                        # all of it within 570 s
    python benchmarks/gpu_paper.py --out gpu-results/paper --arm-seconds 90 --run-seconds 300     # in two such calls
    python benchmarks/gpu_paper.py --out /tmp/toy --toy                                           # on a CPU: does it run?

CIFAR-10 shrunk to 8 to 32 px by class, of which only `vehicle` or `animal` is a condition. Arms, DiT-S: constant gate, alpha 2,
alpha 8 on `clock: time`. Measured: content change (a classifier fitted on shrunk real pictures reads the class), its floor, and
control effect. Last the class-conditional recipe on whole pictures, with FD of the same features.

How --limit is divided: what evaluations and starts are expected to take is set aside; of the rest, three arms of 90 s and a run
of 300 s get the same share each, at most all. The run is planned anew when the arms are done. No training is begun for less
than half of its seconds. Seconds that are asked for are not shortened: what does not fit is left to the next call. Samples
follow from the seconds and the pace of a short training, so that the learning rate's course fits, and stay as planned.

RESULTS.json is written anew after every cell, and the same command goes on with the cells that it lacks; trainings go on from
their checkpoints. Ends with 0 (done), 75 (some is left: the same command again) or 1 (something failed). Not run on a GPU yet.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from gpu import Cell, Results, Where, card_of, describe, measured
from gpu_paper_sizes import FULL, TOY, Sizes
from open_ldm.commands.evaluate.config import EvaluationConfig
from open_ldm.commands.evaluate.evaluate import evaluate
from open_ldm.commands.fit_features import fit_features
from open_ldm.core.device import choose_device
from open_ldm.core.errors import StoppedError
from open_ldm.core.events import effective_events, read_events
from open_ldm.evaluation.features.classifier_fit import FitConfig
from open_ldm.runs.recipe import load_recipe
from open_ldm.runs.train import train

LIMIT_SECONDS = 570.0
LEAST_SHARE = 0.5
REPORTS = 20
GATE = "conditioning.controls.original_size.gate"
ARMS: Mapping[str, str] = {
    "constant": f"{GATE}={{kind: constant}}",
    "alpha 2": f"{GATE}={{kind: power_cosine, alpha: 2}}",
    "alpha 8 on t": f"{GATE}={{kind: power_cosine, alpha: 8, clock: time}}",
}
RUN = "by class"
SIZES_PX = ("8x8", "16x16", "32x32")


def share_of(left: float, asked: Sequence[float], apart: float) -> float:
    """Share of its seconds that each training gets.

    Args:
        left: Seconds for everything.
        asked: Seconds of the trainings that are not planned yet.
        apart: Seconds that all else is expected to take.

    Returns:
        At most 1; 0 where nothing is left.
    """
    return max(0.0, min(1.0, (left - apart) / sum(asked)))


@contextmanager
def stopped_after(seconds: float) -> Iterator[None]:
    """Context manager in which a training, fit or evaluation is asked to save and stop after `seconds`, as by a scheduler."""
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    timer = threading.Timer(max(0.0, seconds), os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        signal.signal(signal.SIGUSR1, before)


def speed_of(run: Path) -> dict[str, float]:
    """Pictures a second and the share of time waited for pictures, over the second half of a training."""
    reports = [event for event in effective_events(read_events(run / "events.jsonl")) if event.name == "train"]
    late = reports[len(reports) // 2 :]
    names = ("samples_per_second", "data_wait_share")
    return {name: median(one.number(name) or 0.0 for one in late) for name in names}


@dataclass
class Paper:
    """All cells, and what they share. `asked`: seconds of an arm and of the run that must not be shortened, or None."""

    sizes: Sizes
    data: str
    results: Results
    until: float
    asked_arm: float | None = None
    asked_run: float | None = None

    def left(self) -> float:
        """Seconds until the limit."""
        return self.until - time.perf_counter()

    def of(self, name: str) -> dict[str, Any]:
        """Figures of an earlier cell. Raises RuntimeError where it has none."""
        if not self.results.done(name):
            raise RuntimeError(f"{name} has no figures, which this needs")
        return dict(self.results.found[name])

    def cells(self) -> list[Cell]:
        """Every cell, the most valuable first; seconds: without so many left it is not begun."""
        sizes, shortest = self.sizes, self.sizes.saving * 2
        cells = [
            Cell("machine", 0, describe),
            Cell("reader", shortest, self.reader),
            Cell("pace", shortest, self.pace),
            Cell("plan/arms", 0, self.plan_arms),
        ]
        for name, gate in ARMS.items():
            cells.append(Cell(f"{name}/trained", shortest, partial(self.trained, name=name, changes=[gate])))
            cells.append(Cell(f"{name}/measured", sizes.arm_evaluation / 2, partial(self.measured, name=name)))
        cells.append(Cell(f"plan/{RUN}", 0, self.plan_run))
        cells.append(Cell(f"{RUN}/trained", shortest, partial(self.trained, name=RUN, changes=[])))
        return [*cells, Cell(f"{RUN}/measured", sizes.run_evaluation / 2, partial(self.measured, name=RUN))]

    def reader(self, where: Where) -> dict[str, Any]:
        """Fit the classifier that reads the class of samples."""
        data = load_recipe("cifar10-dit", [f"data.source.path={self.data}"]).data
        config = FitConfig(pictures=self.sizes.reader_pictures, shrunk_to_px=8)
        fitted = fit_features(data, where.out / "reader", config, silent=True)
        return {"accuracy": fitted.accuracy, "tested": fitted.tested}

    def pace(self, where: Where) -> dict[str, Any]:
        """Pictures a second, and what starting and saving a training take."""
        run, samples = where.out / "pace", self.sizes.pace_updates * self.sizes.batch
        shutil.rmtree(run, ignore_errors=True)
        started = time.perf_counter()
        self.train("constant", [ARMS["constant"]], samples, run)
        speed = speed_of(run)
        return {**speed, "start_seconds": time.perf_counter() - started - samples / speed["samples_per_second"]}

    def plan_arms(self, where: Where) -> dict[str, Any]:
        """How long each arm is: all are equally long."""
        sizes, start = self.sizes, self.of("pace")["start_seconds"]
        seconds = [self.asked_arm or sizes.arm_seconds] * len(ARMS) + [self.asked_run or sizes.run_seconds]
        apart = len(ARMS) * sizes.arm_evaluation + sizes.run_evaluation + len(seconds) * start
        share = 1.0 if self.asked_arm else share_of(self.left(), seconds, apart)
        return self.planned(seconds[0], share)

    def plan_run(self, where: Where) -> dict[str, Any]:
        """How long the class-conditional run is."""
        seconds = self.asked_run or self.sizes.run_seconds
        apart = self.sizes.run_evaluation + self.of("pace")["start_seconds"]
        return self.planned(seconds, 1.0 if self.asked_run else share_of(self.left(), [seconds], apart))

    def planned(self, seconds: float, share: float) -> dict[str, Any]:
        """Samples of a training that gets a share of its seconds, or why it is left to the next call."""
        if share < LEAST_SHARE:
            return {"left_out": f"{share * seconds:.0f} s of {seconds:g} s a training; needed: {LEAST_SHARE:.0%} of them"}
        batch, rate = self.sizes.batch, self.of("pace")["samples_per_second"]
        updates = max(1, int(rate * share * seconds / batch))
        return {"training_seconds": round(share * seconds, 1), "samples": updates * batch}

    def trained(self, where: Where, name: str, changes: Sequence[str]) -> dict[str, Any]:
        """Train for as many samples as planned, or from a checkpoint on."""
        samples, run = self.of(f"plan/{RUN if name == RUN else 'arms'}")["samples"], folder_of(where, name)
        self.train(name, changes, samples, run)
        return {"samples": samples, **speed_of(run)}

    def train(self, name: str, changes: Sequence[str], samples: int, run: Path) -> None:
        """Train an arm or the class-conditional run. Raises StoppedError where the time was over before."""
        recipe, source = ("cifar10-dit", "data.source") if name == RUN else ("cifar10-entangled", "data.source.of")
        batch = self.sizes.batch
        given = [
            *self.sizes.network,
            f"{source}.path={self.data}",
            *changes,
            f"training.batch_size={batch}",
            f"training.samples={samples}",
            f"training.optimizer.warmup_samples={samples // 20}",
            f"training.log_every_samples={max(batch, samples // REPORTS)}",
            f"training.checkpoint_every_samples={max(batch, samples // 4)}",  # a machine may be taken away without a signal
            "training.preview_every_samples=0",
        ]
        result = train(load_recipe(recipe, given), run, silent=True)
        if result.code != 0:
            raise StoppedError(f"{name} stopped and saved at {result.samples_seen:,} of {samples:,} samples")

    def measured(self, where: Where, name: str) -> dict[str, Any]:
        """Numbers of a run with their intervals, or why there is none."""
        self.of(f"{name}/trained")  # numbers of half a training would be wrong
        sizes, control = self.sizes, {"control": "size", "values": SIZES_PX, "pictures": self.sizes.seeds}
        of_size = [
            {"kind": "content_change", **control, "real_pictures": min(200, sizes.real_pictures)},
            {"kind": "control_effect", **control, "real_pictures": min(2000, sizes.real_pictures)},
        ]
        settings = {
            "metrics": ["fid", "kid", "sliced_wasserstein"] if name == RUN else of_size,
            "extractors": [{"kind": "classifier", "path": str(where.out / "reader")}],
            "n": sizes.pictures if name == RUN else sizes.seeds,
            "against_n": sizes.real_pictures,
            "sampling": sizes.sampling,
        }
        run = folder_of(where, name)
        found = evaluate(
            run, None, EvaluationConfig.model_validate(settings), out=run, cache=where.out / "references", silent=True
        )
        numbers = {one.estimate.name: [one.estimate.value, one.estimate.low, one.estimate.high] for one in found.results}
        return {**numbers, **found.refused}

    def within_time(self, cell: Cell) -> Cell:
        """The cell, which saves and is left to the next call where the time is over before it ends."""

        def measure(where: Where) -> Mapping[str, Any]:
            try:
                with stopped_after(self.left() - self.sizes.saving):
                    return cell.measure(where)
            except StoppedError as stopped:
                return {"left_out": stopped.problem}

        return replace(cell, measure=measure)


def folder_of(where: Where, name: str) -> Path:
    """The run folder of an arm."""
    return where.out / name.replace(" ", "-")


def require_same(results: Results, asked: Mapping[str, Any]) -> None:
    """Refuse to go on with results of other settings, or of another card. Raises SystemExit."""
    before = results.found.get("asked", asked)
    if other := [name for name, value in asked.items() if before.get(name) != value]:
        told = ", ".join(f"{name} {before.get(name)} (now {asked[name]})" for name in other)
        raise SystemExit(f"error: {results.file} was begun with {told}; fix: the same as before, or name another --out")


def main(arguments: Sequence[str] | None = None) -> int:
    """Train and measure cell by cell; returns 0 done, 75 to be continued, 1 where something failed."""
    started = time.perf_counter()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", default="../shared/data/cifar10/train-*.tar", help="shards with 10 classes")
    parser.add_argument("--limit", type=float, default=LIMIT_SECONDS, help="seconds for everything in this call")
    parser.add_argument("--arm-seconds", type=float, help="of each arm's training, whatever the limit; by default its share")
    parser.add_argument("--run-seconds", type=float, help="of the class-conditional training, likewise")
    parser.add_argument("--toy", action="store_true", help="seconds a training, a small network, few pictures")
    args = parser.parse_args(arguments)
    if any(seconds is not None and seconds <= 0 for seconds in (args.limit, args.arm_seconds, args.run_seconds)):
        parser.error("--limit, --arm-seconds and --run-seconds need numbers above 0")
    where = Where(choose_device("auto", "auto").device, args.out, args.toy)
    results = Results(args.out / "RESULTS.json", go_on=True)
    given = {name: getattr(args, name) for name in ("toy", "data", "arm_seconds", "run_seconds")}
    asked = {**given, "device": card_of(where.device)}
    require_same(results, asked)
    args.out.mkdir(parents=True, exist_ok=True)
    results.add("asked", asked)
    sizes = TOY if args.toy else FULL
    paper = Paper(sizes, args.data, results, started + args.limit, args.arm_seconds, args.run_seconds)
    for cell in paper.cells():
        if results.done(cell.name):
            continue
        results.add(cell.name, measured(paper.within_time(cell), where, paper.left()))
        if "left_out" in results.found[cell.name]:
            return StoppedError.exit_code
    return int(any("failed" in found for found in results.found.values()))


if __name__ == "__main__":
    sys.exit(main())
