"""The claim about the size control and one class-conditional model, on one GPU in ten minutes.

    python benchmarks/gpu_paper.py --out gpu-results/paper            # DiT-S, 3 arms x 90 s, then 5 minutes by class
    python benchmarks/gpu_paper.py --out /tmp/toy --toy               # the same on a CPU, seconds a cell: does it run?

CIFAR-10 shrunk to 8 to 32 px by class, of which only `vehicle` or `animal` is a condition. Arms: constant gate, alpha 2, alpha
8 on `clock: time`. Each is trained for as many samples as the device reaches in its seconds, which short runs measure first, so
that the course of the learning rate fits. Measured: content change (a classifier fitted on shrunk real pictures reads the
class), its floor, and control effect. The last cell is the class-conditional recipe on whole pictures with FD of the same
features. RESULTS.json is written anew after every cell. Not run on a GPU yet.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gpu import Results
from open_ldm.commands.evaluate.config import EvaluationConfig
from open_ldm.commands.evaluate.evaluate import evaluate_run
from open_ldm.commands.fit_features import fit_features
from open_ldm.evaluation.features import FeatureConfig
from open_ldm.evaluation.features.classifier_fit import FitConfig
from open_ldm.runs.recipe import load_recipe
from open_ldm.runs.train import train

GATE = "conditioning.controls.original_size.gate"
ARMS: Mapping[str, str] = {
    "constant": f"{GATE}={{kind: constant}}",
    "alpha 2": f"{GATE}={{kind: power_cosine, alpha: 2}}",
    "alpha 8 on t": f"{GATE}={{kind: power_cosine, alpha: 8, clock: time}}",
}
NET = ("denoiser={kind: dit, size: S, patch: 2}", "training.batch_size=256", "training.optimizer.learning_rate=1e-3")
TOY = ("denoiser={kind: dit, size: XS, patch: 4}", "training.batch_size=32", "data.workers=0")
SIZES = ("8x8", "16x16", "32x32")


def samples_in(seconds: float, recipe: str, changes: Sequence[str], out: Path, batch: int) -> int:
    """Samples that a training reaches in `seconds`, a multiple of the batch: two short runs differ by their updates alone."""
    took = []
    for updates in (10, 40):
        short = [
            f"training.samples={updates * batch}",
            "training.optimizer.warmup_samples=0",
            "training.preview_every_samples=0",
        ]
        started = time.perf_counter()
        train(load_recipe(recipe, [*changes, *short]), out / f"pace-{updates}", silent=True)
        took.append(time.perf_counter() - started)
    rate = 30 * batch / max(took[1] - took[0], 1e-3)
    return max(1, int(seconds * rate / batch)) * batch


def trained(recipe: str, changes: Sequence[str], samples: int, out: Path) -> dict[str, Any]:
    """Train, and say for how many samples and how fast."""
    budget = [
        f"training.samples={samples}",
        f"training.optimizer.warmup_samples={samples // 20}",
        f"training.checkpoint_every_samples={samples}",
        "training.preview_every_samples=0",
    ]
    started = time.perf_counter()
    train(load_recipe(recipe, [*changes, *budget]), out, silent=True)
    seconds = time.perf_counter() - started
    return {"samples": samples, "seconds": round(seconds, 1), "samples_per_second": round(samples / seconds, 1)}


def measured(
    run: Path, metrics: Sequence[str | Mapping[str, Any]], extractors: tuple[FeatureConfig, ...], pictures: int
) -> dict[str, Any]:
    """Numbers of a run with their intervals, or why there is none."""
    found = evaluate_run(run, None, metrics, extractors=extractors, n=pictures, against_n=20_000, out=run)
    numbers = {one.estimate.name: [one.estimate.value, one.estimate.low, one.estimate.high] for one in found.results}
    return {**numbers, **found.refused}


def main() -> None:
    """Train and measure cell by cell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", default="../shared/data/cifar10/train-*.tar", help="shards with 10 classes")
    parser.add_argument("--arm-seconds", type=float, default=90)
    parser.add_argument("--class-seconds", type=float, default=300)
    parser.add_argument("--toy", action="store_true", help="seconds a cell, a small network, few pictures")
    args = parser.parse_args()
    net, pictures, fitted = (TOY, 32, 640) if args.toy else (NET, 5000, 40_000)
    arm_seconds, class_seconds = (4, 4) if args.toy else (args.arm_seconds, args.class_seconds)
    batch = 32 if args.toy else 256
    cells = Results(args.out / "RESULTS.json")

    entangled = (*net, f"data.source.of.path={args.data}")
    reader = FitConfig(pictures=fitted, shrunk_to_px=8)
    fit_features(load_recipe("cifar10-dit", [f"data.source.path={args.data}"]).data, args.out / "reader", reader, silent=True)
    number = min(pictures, 512)
    metrics = [
        {
            "kind": "content_change",
            "control": "size",
            "values": list(SIZES),
            "pictures": number,
        },
        {"kind": "control_effect", "control": "size", "values": list(SIZES), "pictures": number},
    ]
    settings = {"metrics": metrics, "extractors": [{"kind": "classifier", "path": str(args.out / "reader")}]}
    readers = EvaluationConfig.model_validate(settings).extractors
    samples = samples_in(arm_seconds, "cifar10-entangled", entangled, args.out, batch)
    for name, gate in ARMS.items():
        out = args.out / name.replace(" ", "-")
        cells.add(name, trained("cifar10-entangled", (*entangled, gate), samples, out))
        cells.add(name, {**cells.found[name], **measured(out, metrics, readers, number)})

    by_class = (*net, f"data.source.path={args.data}")
    samples = samples_in(class_seconds, "cifar10-dit", by_class, args.out / "by-class-pace", batch)
    out = args.out / "by-class"
    cells.add("by class", trained("cifar10-dit", by_class, samples, out))
    cells.add("by class", {**cells.found["by class"], **measured(out, ["fid", "kid", "sliced_wasserstein"], readers, pictures)})


if __name__ == "__main__":
    main()
