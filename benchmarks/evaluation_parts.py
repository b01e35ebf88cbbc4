"""Joining statistics of many parts: the memory of the process that joins, and of one that collects.

    python benchmarks/evaluation_parts.py --folder /tmp/parts --parts 64 --rows 50000 --dim 2048 --json evaluation_parts.json

Each part is made by a process of its own from random vectors, as `ldm evaluate --task` keeps it; links stand for the others of
`--distinct`, so that 64 parts of 432 MB need the disk of a few. The peak is that of the whole process (VmHWM), torch included.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import torch

from figures import processor
from open_ldm.evaluation.bank import Bank, Rows
from open_ldm.evaluation.features.base import ExtractorId
from open_ldm.evaluation.moments import Moments
from open_ldm.evaluation.parts import PartFolder, join_parts
from open_ldm.evaluation.pictures import PictureSet
from open_ldm.evaluation.statistics import Statistics

_BATCH = 1000


def make_part(root: Path, number: int, count: int, rows: int, dim: int) -> None:
    """Collect random vectors as a task does, and keep them."""
    bank, moments = Bank(rows), Moments.empty(dim)
    draw = torch.Generator().manual_seed(number)
    for start in range(0, rows, _BATCH):
        vectors = torch.randn(min(_BATCH, rows - start), dim, generator=draw)
        keys = torch.randint(0, 1 << 62, (len(vectors),), generator=draw)
        bank.add(Rows(keys, torch.arange(start, start + len(vectors)) + number * rows, vectors))
        moments.add(vectors)
    pictures = PictureSet(rows, (64, 64), number)
    part = Statistics(ExtractorId("random", "0", "none"), pictures, moments, bank.rows())
    PartFolder(root, number, count).keep([part], whole=True)


def peak_mb() -> float:
    """The most memory that this process had, in MB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def main() -> None:
    """Make the parts, join them in a process of its own, and print the peaks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--parts", type=int, default=64)
    parser.add_argument("--distinct", type=int, default=2)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--make", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--join", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.make is not None:
        make_part(given.folder, given.make, given.parts, given.rows, given.dim)
        print(peak_mb())
        return
    if given.join:
        started = time.process_time()
        (found,) = join_parts(given.folder, 1, given.rows)
        assert found.pictures.count == given.parts * given.rows and len(found.rows) == given.rows
        print(peak_mb(), round(time.process_time() - started, 1))
        return
    own = [sys.executable, __file__, "--folder", str(given.folder), "--parts", str(given.parts)]
    own += ["--rows", str(given.rows), "--dim", str(given.dim)]
    shutil.rmtree(given.folder, ignore_errors=True)
    peaks = [
        float(subprocess.run([*own, "--make", str(number)], check=True, capture_output=True, text=True).stdout)
        for number in range(1, given.distinct + 1)
    ]
    for number in range(given.distinct + 1, given.parts + 1):
        like = (number - 1) % given.distinct + 1
        (given.folder / f"{number}-of-{given.parts}").symlink_to((given.folder / f"{like}-of-{given.parts}").resolve())
    joined = subprocess.run([*own, "--join"], check=True, capture_output=True, text=True).stdout.split()
    found = {
        "processor": processor(),
        "date": str(date.today()),
        "parts": given.parts,
        "rows": given.rows,
        "dim": given.dim,
        "collecting_mb": max(peaks),
        "joining_mb": float(joined[0]),
        "joining_processor_seconds": float(joined[1]),
    }
    print(json.dumps(found, indent=1))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
