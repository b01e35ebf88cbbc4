"""Reading shards from a slow web server that fails now and then: windowed order beside global order.

    python benchmarks/remote.py --folder /tmp/remote --latency 0.05 --fault-every 100 --json remote.json

Needs aiohttp (`pip install 'open-ldm[remote]'`). A server of this process waits before each answer and lets every hundredth
answer fail, by a status, an early end or wrong bytes. The same epoch is read in windowed order, which fetches each shard once,
and its beginning in global order, which asks for each picture. Every picture is compared with the one on the disk.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import tarfile
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from figures import processor
from open_ldm.commands.data_index import index_data
from open_ldm.data.order import Order, ShuffledOrder
from open_ldm.data.stored import expect_streams
from open_ldm.data.windowed_order import WindowedOrder
from open_ldm.sources.shards import ShardsConfig, ShardsSource
from remote_server import Served, serving


def make_shards(folder: Path, shards: int, samples: int) -> None:
    """Write shards of small JPEG files, unless they are there, with their table."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    for number in range(shards):
        path = folder / f"train-{number:04d}.tar"
        if path.is_file():
            continue
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
            for key in range(samples // shards):
                stream = io.BytesIO()
                Image.fromarray(draw.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(stream, "JPEG", quality=90)
                member = tarfile.TarInfo(f"{number:04d}{key:06d}.jpg")
                member.size = len(stream.getvalue())
                archive.addfile(member, io.BytesIO(stream.getvalue()))
    index_data(ShardsConfig(path=str(folder)), silent=True)


def read(source: ShardsSource, order: Order, count: int, truth: list[bytes], server: Served) -> dict[str, Any]:
    """Read the first samples of an order; count what was wrong and what the server was asked for."""
    server.asked.clear()
    server.faults = 0
    started, wrong = time.perf_counter(), 0
    for position in range(count):
        index = order.view_at(position).index
        wrong += hashlib.sha256(source.file_at(index)).digest() != truth[index]
    seconds = time.perf_counter() - started
    by_shard: dict[str, int] = {}
    for (_, name), times in server.asked.items():
        if name.endswith(".tar"):
            by_shard[name] = by_shard.get(name, 0) + times
    return {
        "samples": count,
        "wrong": wrong,
        "samples_per_second": round(count / seconds, 1),
        "answers": sum(server.asked.values()),
        "faults": server.faults,
        "answers_per_shard": round(sum(by_shard.values()) / len(by_shard), 2),
    }


def main() -> None:
    """Serve, read both ways, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--in-global", type=int, default=200, help="samples read in global order")
    parser.add_argument("--latency", type=float, default=0.05)
    parser.add_argument("--fault-every", type=int, default=100)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    make_shards(given.folder / "shards", given.shards, given.samples)
    local = ShardsConfig(path=str(given.folder / "shards")).open()
    truth = [hashlib.sha256(local.file_at(index)).digest() for index in range(len(local))]
    found: dict[str, Any] = {"processor": processor(), "date": str(date.today()), "arguments": vars(given) | {"json": None}}
    with serving(given.folder / "shards") as server:
        server.latency_seconds, server.fault_every, server.wrong_bytes = given.latency, given.fault_every, True
        orders: dict[str, Order] = {
            "windowed": WindowedOrder(0, local.shard_sizes, 4, 256),
            "global": ShuffledOrder(0, len(local)),
        }
        for name, order in orders.items():
            remote = {"folder": str(given.folder / f"kept-{time.time_ns()}"), "tries": 10}
            source = ShardsConfig.model_validate({"path": server.url, "remote": remote}).open()
            if isinstance(order, WindowedOrder):
                expect_streams(source, order.streams)
            found[name] = read(source, order, len(local) if name == "windowed" else given.in_global, truth, server)
            print(name, found[name], flush=True)
    found["ratio"] = round(found["windowed"]["samples_per_second"] / found["global"]["samples_per_second"], 1)
    print("windowed / global:", found["ratio"])
    if given.json:
        given.json.write_text(json.dumps(found, indent=1, default=str) + "\n")


if __name__ == "__main__":
    main()
