"""Five denoisers, baseline and improved conditioning, on CIFAR-10 at 32 px: ten runs of equal length, one table.

    python benchmarks/five_denoisers.py --out runs/five      # 2 to 10 minutes a run
    python benchmarks/five_denoisers.py --out runs/five --only dit mmdit --samples 4000

Every run sees the same pictures with the same times and noise, so their losses are paired. The same command goes on where it
stopped. Written: OUT/table.md, OUT/table.json and the last preview of each run as OUT/NAME.png.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from open_ldm.core.events import effective_events, read_events
from open_ldm.data.loader import read_batches
from open_ldm.data.sources import open_source
from open_ldm.evaluation.held_out_loss import HeldOutLoss, held_out_loss
from open_ldm.runs.assemble import Encoders, encoder_of
from open_ldm.runs.load import load_run

KINDS = ("unet", "dit", "mdtv2", "pixart", "mmdit")
CONDITIONINGS = ("-baseline", "")
PLAIN_XS = ("denoiser.depth=null", "denoiser.width=null", "denoiser.heads=null")
"""The recipes enlarge XS a little; here it is XS itself."""
TEST_SHARDS = "test-*.tar"


@dataclass(frozen=True)
class Row:
    """One run. Losses are of the averaged weights on held-out pictures, with a 95 % interval;
    `low_noise` and `high_noise` are those at t = 0.15 and 0.85."""

    name: str
    parameters: int
    samples: int
    held_out: float
    interval: tuple[float, float]
    low_noise: float
    high_noise: float
    last_training: float


def train(name: str, samples: int, out: Path, overrides: Sequence[str]) -> None:
    """Train one recipe to its end, or go on with it."""
    command = [sys.executable, "-m", "open_ldm", "train", name, *overrides]
    command += [f"training.samples={samples}", f"training.preview_every_samples={samples // 2}", "data.workers=0"]
    command += ["training.batch_size=16", "training.log_every_samples=320"]
    subprocess.run([*command, "--out", str(out)], check=True)


def row_of(name: str, run: Path, pictures: int) -> Row:
    """Held-out and training loss of a finished run."""
    loaded = load_run(run, "cpu")
    found = held_out(run, pictures)
    events = [event for event in effective_events(read_events(run / "events.jsonl")) if event.name == "train"]
    tail = [loss for event in events[-max(1, len(events) // 10) :] if (loss := event.number("loss")) is not None]
    by_time = dict(zip((round(time, 2) for time in found.times), (level.value for level in found.levels), strict=True))
    return Row(
        name,
        sum(parameter.numel() for parameter in loaded.model.parameters()),
        loaded.samples_seen,
        found.mean.value,
        (found.mean.low, found.mean.high),
        by_time[0.15],
        by_time[0.85],
        sum(tail) / len(tail),
    )


def held_out(run: Path, pictures: int) -> HeldOutLoss:
    """The loss on the first `pictures` of the test shards that lie beside the run's training shards."""
    loaded = load_run(run, "cpu")
    recipe = loaded.recipe
    path = Path(recipe.data.source.model_dump()["path"]).parent / TEST_SHARDS
    source = open_source(recipe.data.source.model_copy(update={"path": str(path)}))
    ranges = [range(start, min(start + 100, pictures)) for start in range(0, pictures, 100)]
    batches = read_batches(source, recipe.data.transform, seed=0, position_ranges=ranges, workers=0)
    encoder = encoder_of(recipe, loaded.known.facts, source, Encoders(loaded.generator.autoencoder, None, loaded.machine))
    encoded = (encoder.encode(batch) for batch in batches)
    return held_out_loss(loaded.model, loaded.known.stats, recipe.conditioning, encoded)


def markdown(rows: Sequence[Row]) -> str:
    """The table."""
    lines = [
        "| run | parameters | held-out loss (95 %) | at t = 0.15 | at t = 0.85 | last tenth of training |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        interval = f"{row.held_out:.4f} ({row.interval[0]:.4f}–{row.interval[1]:.4f})"
        losses = f"{row.low_noise:.4f} | {row.high_noise:.4f} | {row.last_training:.4f}"
        lines.append(f"| {row.name} | {row.parameters:,} | {interval} | {losses} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is not trained yet, then write the table."""
    parser = argparse.ArgumentParser(description="Ten runs of equal length on CIFAR-10, one table.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--samples", type=int, default=12000)
    parser.add_argument("--pictures", type=int, default=1000, help="held-out pictures")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="further changes to every recipe")
    wished = parser.parse_args(arguments)
    rows = []
    for kind in wished.only:
        for conditioning in CONDITIONINGS:
            name = f"cifar10-{kind}{conditioning}"
            plain = () if kind == "unet" else PLAIN_XS
            train(name, wished.samples, wished.out / name, [*plain, *wished.set])
            rows.append(row_of(name, wished.out / name, wished.pictures))
            shutil.copyfile(max((wished.out / name / "samples").glob("*.png")), wished.out / f"{name}.png")
            (wished.out / "table.md").write_text(markdown(rows))
            (wished.out / "table.json").write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    print(markdown(rows))


if __name__ == "__main__":
    main()
