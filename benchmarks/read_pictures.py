"""Reading speed of sources, side by side: folders and shards of two checkouts, and a table of `datasets` beside the shards.

    python benchmarks/read_pictures.py ../before              # this checkout against another, folder and shards
    python benchmarks/read_pictures.py ../before --tables     # also a table, against the shards of this checkout

Every side is a process of its own that reads the same pictures when told to; sides take turns, block by block, so that a busy
machine or a drifting clock meets all of them. Printed are pictures per second of wall time and processor time of each picture
(median and minimum over the blocks; the minimum is least disturbed by other programs), and ratios of neighbouring blocks.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

_HERE = Path(__file__).resolve().parents[1]
_CHILD = """
import sys, time
from open_ldm.data.sources.{module} import {name}
source = {name}(path={path!r}).open()
length, at = len(source), 0
print("ready", flush=True)
for line in sys.stdin:
    count = int(line)
    wall, used = time.perf_counter(), time.process_time()
    for _ in range(count):
        source[(at * 7919) % length]
        at += 1
    print(count / (time.perf_counter() - wall), (time.process_time() - used) / count, flush=True)
"""


@dataclass
class Side:
    """A process that reads pictures of one source by one checkout."""

    name: str
    checkout: Path
    module: str
    config: str
    path: Path
    rates: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)
    process: subprocess.Popen[str] | None = None

    def start(self, environment: dict[str, str]) -> None:
        """Open the source."""
        code = _CHILD.format(module=self.module, name=self.config, path=str(self.path))
        given = environment | {"PYTHONPATH": str(self.checkout / "src")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=given
        )
        assert self.process.stdout is not None and self.process.stdout.readline().strip() == "ready", self.name

    def read(self, count: int, keep: bool) -> None:
        """Read so many pictures."""
        assert self.process is not None and self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        rate, cost = map(float, self.process.stdout.readline().split())
        if keep:
            self.rates.append(rate)
            self.costs.append(cost)

    def stop(self) -> None:
        """End the process."""
        if self.process is not None and self.process.stdin is not None:
            self.process.stdin.close()
            self.process.wait()


def make_pictures(count: int, side: int) -> list[bytes]:
    """JPEG files of smooth noise with edges, of about the size that photographs of this side have."""
    draw = np.random.default_rng(0)
    files = []
    for _ in range(count):
        coarse = Image.fromarray(draw.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8))
        stream = io.BytesIO()
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
        files.append(stream.getvalue())
    return files


def write_all(root: Path, files: Sequence[bytes], tables: bool) -> None:
    """The same pictures as a folder, as a shard and as a table."""
    (root / "folder").mkdir()
    with tarfile.open(root / "a.tar", "w") as archive:
        for number, content in enumerate(files):
            (root / "folder" / f"{number:06d}.jpg").write_bytes(content)
            info = tarfile.TarInfo(f"{number:06d}.jpg")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    if tables:
        import datasets

        datasets.disable_progress_bars()
        rows = datasets.Dataset.from_dict({"image": [{"bytes": content, "path": None} for content in files]})
        rows.cast_column("image", datasets.Image()).save_to_disk(root / "table")


def ratio(over: Sequence[float], under: Sequence[float]) -> str:
    """Median and quartiles of the ratios of neighbouring blocks."""
    pairs = [one / other for one, other in zip(over, under, strict=True)]
    low, middle, high = statistics.quantiles(pairs, n=4)
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="another checkout")
    parser.add_argument("--tables", action="store_true", help="also a table of datasets")
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--side", type=int, default=128, help="of a picture, in px")
    parser.add_argument("--blocks", type=int, default=30)
    parser.add_argument("--block", type=int, default=100, help="pictures in a block")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        write_all(root, make_pictures(given.pictures, given.side), given.tables)
        environment = os.environ | {"XDG_CACHE_HOME": made, "HF_HOME": made, "OMP_NUM_THREADS": "1"}
        folder, shards = (("folder", "FolderConfig", root / "folder"), ("shards", "ShardsConfig", root / "a.tar"))
        checkouts = (("before", given.before.resolve()), ("now", _HERE))
        sides = [Side(f"{what[0]} {name}", checkout, *what) for what in (folder, shards) for name, checkout in checkouts]
        if given.tables:
            sides.append(Side("table now", _HERE, "huggingface", "HuggingFaceConfig", root / "table"))
        try:
            for side in sides:
                side.start(environment)
            order = random.Random(0)
            for number in range(given.blocks + 2):
                for side in order.sample(sides, len(sides)):  # a fixed order would favour whoever reads twice in a row
                    side.read(given.block, keep=number > 1)
        finally:
            for side in sides:
                side.stop()
    by_name = {side.name: side for side in sides}
    for side in sides:
        rate, cost, least = statistics.median(side.rates), 1e6 * statistics.median(side.costs), 1e6 * min(side.costs)
        print(f"{side.name:<14} {rate:8.0f} pictures/s, {cost:7.0f} us of processor time each, {least:7.0f} at least")
    for what in ("folder", "shards"):
        now, before = by_name[f"{what} now"], by_name[f"{what} before"]
        by_time = ratio(before.costs, now.costs)
        print(f"{what}: now / before {ratio(now.rates, before.rates)} in pictures/s, {by_time} by processor time")
    if given.tables:
        table, now = by_name["table now"], by_name["shards now"]
        print(
            f"table / shards: {ratio(table.rates, now.rates)} in pictures/s, {ratio(now.costs, table.costs)} by processor time"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
