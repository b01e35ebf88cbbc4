"""Views in buckets, by counting: every sample once an epoch for any number of processes, what is thrown away, kills.

    python benchmarks/buckets.py --photos ../shared/data/photos/train --json buckets.json
    python benchmarks/buckets.py --parts kills ranks       # trains a small model; the other parts train nothing

counts   three epochs of pictures of 1:3 to 3:1, position by position, as 1, 2 and 4 processes read them
thrown   share of a picture's pixels that no view shows, in buckets and by a square crop
kills    a training in buckets, killed at random moments and started again, beside one that never stopped
ranks    the same training by 1, 2 and 4 processes
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from open_ldm.core.distributed import World
from open_ldm.core.events import effective_events, read_events
from open_ldm.data.bucket_order import BucketOrder
from open_ldm.data.bucket_shapes import BucketsConfig, Shape, bucket_shapes
from open_ldm.data.buckets import assign, find_buckets
from open_ldm.sources.folder import FolderConfig
from open_ldm.training.plan import plan_batches

PARTS = ("counts", "thrown", "kills", "ranks")
EPOCHS, BATCH, RANKS = 3, 64, (1, 2, 4)
RECIPE = """
name: buckets
data:
  source: {kind: shapes, length: 200, two_shapes: 0, longest_aspect: 3, short_side_px: [16, 40]}
  transform: {size_px: 16, flip: 0.5, buckets: {}}
  workers: 0
latent_stats: {kind: measured, pictures: 16}
conditioning:
  semantic: {kind: class}
  controls: [{kind: original_size}, {kind: crop}, {kind: flip}, {kind: aspect_ratio}]
denoiser: {kind: mdtv2, size: XS, patch: 2, depth: 3, width: 32, heads: 2, decode_layers: 1}
training:
  {samples: 160, batch_size: 8, dtype: float32, log_every_samples: 8, checkpoint_every_samples: 16, preview_every_samples: 0}
"""


def made_sizes(count: int) -> list[Shape]:
    """(height, width) of pictures whose aspect ratio is log-uniform from 1:3 to 3:1 and whose area is 300^2 to 600^2."""
    draw = random.Random(0)
    sizes = []
    for _ in range(count):
        ratio, side = math.exp(draw.uniform(-math.log(3), math.log(3))), draw.uniform(300, 600)
        sizes.append((round(side / ratio**0.5), round(side * ratio**0.5)))
    return sizes


def count_epochs() -> list[dict[str, Any]]:
    """Count three epochs position by position."""
    sizes = made_sizes(5000)
    buckets = assign(sizes, bucket_shapes((256, 256), 16, BucketsConfig()), (256, 256))
    order = BucketOrder(buckets, seed=1, batch_size=BATCH)
    updates = sum(order.batches_of(epoch) for epoch in range(EPOCHS))
    found = []
    for ranks in RANKS:
        came: Counter[int] = Counter()
        shapes: list[set[Shape | None]] = [set() for _ in range(updates)]
        for rank in range(ranks):
            plan = plan_batches(BATCH, BATCH // 4, World(rank, ranks))
            for number, positions in enumerate(itertools.islice(plan.ranges(0), updates * plan.micro_batches)):
                keys = [order.view_at(position) for position in positions]
                came.update(key.index for key in keys)
                shapes[number // plan.micro_batches] |= {key.shape for key in keys}
        extra = [sum(came[int(index)] - EPOCHS for index in members) for members in buckets.members]
        found.append(
            {
                "processes": ranks,
                "pictures": len(sizes),
                "updates": updates,
                "read": sum(came.values()),
                "fewest": min(came[index] for index in range(len(sizes))),
                "most": max(came.values()),
                "filling": sum(extra),
                "most_filling_of_a_bucket": max(extra),
                "updates_of_several_shapes": sum(len(each) != 1 for each in shapes),
            }
        )
    return found


def count_thrown(photos: Path | None) -> list[dict[str, Any]]:
    """Count the pixels that views leave out."""
    found = []
    for side, step in ((64, 4), (256, 16), (512, 16)):
        base = (side, side)
        shapes = bucket_shapes(base, step, BucketsConfig())
        sets = {"made, 1:3 to 3:1": assign(made_sizes(5000), shapes, base)}
        if photos is not None:
            sets["photographs"] = find_buckets(FolderConfig(path=photos).open(), shapes, base)
        for name, buckets in sets.items():
            found.append(
                {
                    "pictures": name,
                    "size_px": side,
                    "buckets": len(shapes),
                    "thrown_away": round(buckets.thrown_away, 4),
                    "by_a_square_crop": round(buckets.thrown_away_alone, 4),
                }
            )
    return found


def _train(recipe: Path, out: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "open_ldm", "train", str(recipe), "--out", str(out), *more]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _losses(run: Path) -> list[float | None]:
    return [event.number("loss") for event in effective_events(read_events(run / "events.jsonl")) if event.name == "train"]


def _hashes(run: Path) -> dict[str, str]:
    newest = max((run / "checkpoints").iterdir())
    return {name: each["sha256"] for name, each in json.loads((newest / "MANIFEST.json").read_text())["files"].items()}


def kill(folder: Path, kills: int) -> dict[str, Any]:
    """Train in one go, and with kills at random moments once the run goes on; compare losses and all tensors."""
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE)
    assert _train(recipe, folder / "whole").wait() == 0
    draw, done = random.Random(1), 0
    while done < kills:
        process = _train(recipe, folder / "broken", f"data.workers={done % 3}")
        events = folder / "broken" / "events.jsonl"
        before = len(read_events(events)) if events.is_file() else 0
        while process.poll() is None and (not events.is_file() or len(read_events(events)) < before + 2):
            time.sleep(0.05)
        time.sleep(draw.uniform(0, 2))
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        done += 1
    assert _train(recipe, folder / "broken").wait() == 0
    resumed = [event.text("bitwise") for event in read_events(folder / "broken" / "events.jsonl") if event.name == "resume"]
    whole, broken = _losses(folder / "whole"), _losses(folder / "broken")
    tensors, others = _hashes(folder / "whole"), _hashes(folder / "broken")
    return {
        "kills": done,
        "resumes": len(resumed),
        "bitwise": sorted(set(resumed)),
        "losses": len(whole),
        "losses_that_differ": sum(one != other for one, other in zip(whole, broken, strict=True)),
        "files_that_differ": sum(tensors[name] != others[name] for name in tensors),
    }


def compare_ranks(folder: Path) -> list[dict[str, Any]]:
    """Train by several processes and compare the losses."""
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE)
    losses: dict[int, list[Any]] = {}
    for ranks in RANKS:
        more = [] if ranks == 1 else ["--processes", str(ranks)]
        assert _train(recipe, folder / f"ranks-{ranks}", *more).wait() == 0
        losses[ranks] = _losses(folder / f"ranks-{ranks}")
    return [
        {
            "processes": ranks,
            "losses": len(found),
            "largest_difference": max(abs(one / other - 1) for one, other in zip(found, losses[1], strict=True)),
        }
        for ranks, found in losses.items()
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--photos", type=Path, help="a folder of pictures, for `thrown`")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="buckets-"))
    work = {
        "counts": count_epochs,
        "thrown": lambda: count_thrown(given.photos),
        "kills": lambda: kill(folder, given.kills),
        "ranks": lambda: compare_ranks(folder),
    }
    found = {}
    for part in given.parts:
        found[part] = work[part]()
        print(part, json.dumps(found[part], indent=1), flush=True)
        if given.json is not None:
            given.json.write_text(json.dumps(found, indent=1))
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
