"""Shards with a table: what building, opening and reading cost, beside shards without one, by this checkout and another.

    python benchmarks/shard_table.py --folder /tmp/table --samples 200000 --json shard_table.json --before ../before
    python benchmarks/shard_table.py --folder /tmp/table --copies 50 --json start.json          # ten million samples by links

Samples are tiny JPEG files with a class and a caption, in shards of 10,000. `--copies` links every shard and its sidecar under
so many names, so that ten million samples need no disk; the table is written for all of them. Each opening is a process of its
own, whose seconds, peak memory and growth by two workers count. Seconds are of the processor, which a busy machine changes
little, and by the clock.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from figures import measure_parts, memory

SAMPLES_OF_A_SHARD = 10_000


def tiny_picture() -> bytes:
    """A JPEG file of 8x8 pixels."""
    stream = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save(stream, "JPEG", quality=20)
    return stream.getvalue()


def make_shards(folder: Path, samples: int) -> None:
    """Write shards of samples with .jpg, .cls and .txt, unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    picture = tiny_picture()
    for number in range(samples // SAMPLES_OF_A_SHARD):
        path = folder / f"train-{number:05d}.tar"
        if path.is_file():
            continue
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
            for key in range(SAMPLES_OF_A_SHARD):
                caption = f"a picture of number {key} in shard {number}".encode()
                for ending, content in ((".jpg", picture), (".cls", b"%d" % (key % 1000)), (".txt", caption)):
                    member = tarfile.TarInfo(f"{number:05d}{key:06d}{ending}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))


def timed(action: Callable[[], Any]) -> dict[str, float]:
    """Seconds of an action by the clock and of the processor."""
    clock, used = time.perf_counter(), time.process_time()
    action()
    return {"seconds": round(time.perf_counter() - clock, 2), "processor_seconds": round(time.process_time() - used, 2)}


def opened(folder: str) -> dict[str, Any]:
    """Open the shards and make what a training asks of them first, in this process."""
    from open_ldm.data.content import content_hash, read_fingerprint
    from open_ldm.sources.shards import ShardsConfig

    before, own = memory("VmHWM"), memory("RssAnon")
    found: list[Any] = []
    spent = timed(lambda: found.append(ShardsConfig(path=folder).open()))
    (source,) = found
    rest = timed(lambda: (read_fingerprint(source), source.hashes, source.summary))
    content = timed(lambda: content_hash(source))
    after, own_after = memory("VmHWM"), memory("RssAnon")
    draw = np.random.default_rng(0)
    reads = draw.integers(0, len(source), 2000).tolist()
    read = timed(lambda: [source.file_at(index) for index in reads])
    workers = []
    for _ in range(2):
        ours, theirs = os.pipe()
        if os.fork() == 0:
            for index in reads[:500]:
                source.file_at(index)
            lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
            private = sum(int(line.split()[1]) for line in lines if line.startswith("Private"))
            os.write(theirs, str(private).encode())
            os._exit(0)
        workers.append(round(int(os.read(ours, 32)) / 1e3, 1))
        os.wait()
    return {
        "samples": len(source),
        "open": spent,
        "hashes_and_64_pictures": rest,
        "hash_of_all_pictures": content,
        "own_mb": own_after - own,
        "peak_mb_with_mapped_files": after - before,
        "read_us": round(1e6 * read["processor_seconds"] / len(reads), 1),
        "private_mb_of_workers": workers,
    }


def in_a_process(*arguments: str, source: Path | None = None) -> Any:
    """Run this script by one checkout and read what it prints."""
    home = str(Path(__file__).resolve().parents[1] / "src") if source is None else str(source / "src")
    environment = {**os.environ, "PYTHONPATH": home}
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout)


def headers(shard: str) -> dict[str, Any]:
    """Read the index of one shard from its headers, without a cache."""
    from open_ldm.sources import shard_index

    rules = shard_index.ShardRules()
    spent = timed(lambda: shard_index._read_headers(Path(shard), rules))
    return {"samples_per_processor_second": round(SAMPLES_OF_A_SHARD / spent["processor_seconds"])}


def built(folder: str, digests: bool) -> dict[str, Any]:
    """Write all sidecars and the table."""
    from open_ldm.commands.data_index import index_data
    from open_ldm.sources.shards import ShardsConfig

    config, count = ShardsConfig(path=folder), len(list(Path(folder).glob("*.tar"))) * SAMPLES_OF_A_SHARD
    spent = timed(lambda: index_data(config, digests=digests, silent=True))
    return {**spent, "samples_per_processor_second": round(count / spent["processor_seconds"])}


def copied(folder: Path, copies: int) -> Path:
    """Link all shards and sidecars under many names, and write their table."""
    from open_ldm.commands.index_tar import TarShards
    from open_ldm.sources.shards import ShardsConfig

    many = folder / "many"
    many.mkdir(exist_ok=True)
    for file in sorted(folder.glob("train-*")):
        for copy in range(copies):
            target = many / f"copy{copy:03d}-{file.name}"
            if not target.exists():
                target.hardlink_to(file)
    TarShards(ShardsConfig(path=str(many))).write_table()
    return many


def main() -> None:
    """Print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--samples", type=int, default=200_000)
    parser.add_argument("--copies", type=int, default=0)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--json", type=Path)
    for name in ("opened", "headers", "built", "copied"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.opened or given.headers or given.built:
        answer = (
            opened(given.opened)
            if given.opened
            else headers(given.headers)
            if given.headers
            else built(given.built, digests=True)
        )
        print(json.dumps(answer))
        return
    make_shards(given.folder, given.samples)
    first = str(min(given.folder.glob("train-*.tar")))
    parts: dict[str, Callable[[], Any]] = {"headers": lambda: in_a_process("--headers", first)}
    if given.before:
        parts["headers_before"] = lambda: in_a_process("--headers", first, source=given.before)
    parts["build"] = lambda: in_a_process("--built", str(given.folder))
    parts["open"] = lambda: in_a_process("--opened", str(given.folder))
    if given.copies:
        parts["open_many"] = lambda: in_a_process("--opened", str(copied(given.folder, given.copies)))
    measure_parts(parts, {"samples": given.samples}, given.json)


if __name__ == "__main__":
    main()
