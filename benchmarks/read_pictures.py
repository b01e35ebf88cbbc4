"""Reading speed of sources, side by side: folders and shards of two checkouts, and a table of `datasets` beside the shards.

    python benchmarks/read_pictures.py ../before              # this checkout against another, folder and shards
    python benchmarks/read_pictures.py ../before --tables     # also a table, against the shards of this checkout

Both checkouts are loaded into one process, since two processes of equal code differ by a quarter for as long as they live.
Sides take turns in a random order, block by block, so that a busy machine or a drifting clock meets all of them. Printed are
pictures per second of wall time, processor time of each picture (median and minimum over the blocks; other programs disturb the
minimum least), and ratios of neighbouring blocks.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import random
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

_HERE = Path(__file__).resolve().parents[1]


@dataclass
class Side:
    """One source, read by one checkout."""

    name: str
    source: Any
    rates: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)
    at: int = 0

    def read(self, count: int, keep: bool) -> None:
        """Read so many pictures."""
        wall, used = time.perf_counter(), time.process_time()
        for _ in range(count):
            self.source[(self.at * 7919) % len(self.source)]
            self.at += 1
        if keep:
            self.rates.append(count / (time.perf_counter() - wall))
            self.costs.append((time.process_time() - used) / count)


def open_by(checkout: Path, module: str, config: str, path: Path) -> Any:
    """Open a source by the code of a checkout, which stays loaded beside that of others."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "open_ldm"]:
        del sys.modules[name]
    sys.path.insert(0, str(checkout / "src"))
    try:
        package = "open_ldm.sources" if (checkout / "src/open_ldm/sources").is_dir() else "open_ldm.data.sources"
        found = importlib.import_module(f"{package}.{module}")
        assert Path(str(found.__file__)).is_relative_to(checkout), found.__file__
        return getattr(found, config)(path=str(path)).open()
    finally:
        sys.path.pop(0)


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
        os.environ.update(XDG_CACHE_HOME=made, HF_HOME=made)
        wanted = [("folder", "FolderConfig", root / "folder"), ("shards", "ShardsConfig", root / "a.tar")]
        sides = [Side(f"{what[0]} before", open_by(given.before.resolve(), *what)) for what in wanted]
        sides += [Side(f"{what[0]} now", open_by(_HERE, *what)) for what in wanted]
        if given.tables:
            sides.append(Side("table now", open_by(_HERE, "huggingface", "HuggingFaceConfig", root / "table")))
        order = random.Random(0)
        for number in range(given.blocks + 2):
            for side in order.sample(sides, len(sides)):  # a fixed order would favour whoever reads twice in a row
                side.read(given.block, keep=number > 1)
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
