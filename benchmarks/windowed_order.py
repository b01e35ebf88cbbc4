"""The windowed order at a billion samples: what it costs, how few shards a process opens, and that it is exact.

    python benchmarks/windowed_order.py --json windowed_order.json    # written anew after each part

A billion samples lie in 100,000 shards. For 1, 8, 64 and 512 processes that share batches of 2,048 a few of the processes read
the order through; each keeps so many shards open that it never opens one twice. Printed are samples per shard opened, shards
open at a time, and the same for the global order. The order is started in a process of its own, whose seconds and bytes count.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from figures import measure_parts
from open_ldm.core.distributed import World
from open_ldm.data.order import Order, ShuffledOrder
from open_ldm.data.windowed_order import WindowedOrder
from open_ldm.training.plan import plan_batches

SHARDS, SAMPLES_OF_A_SHARD, BATCH = 100_000, 10_000, 2048
SAMPLES = SHARDS * SAMPLES_OF_A_SHARD
RANKS = (1, 8, 64, 512)


def windowed() -> WindowedOrder:
    """A billion samples in the default streams and windows."""
    return WindowedOrder(0, np.full(SHARDS, SAMPLES_OF_A_SHARD, dtype=np.int64), streams=1024, window=8192)


def started() -> dict[str, float]:
    """Seconds and megabytes until the first sample of the order is known, in this process."""
    sizes = np.full(SHARDS, SAMPLES_OF_A_SHARD, dtype=np.int64)

    def first_batch(seed: int) -> WindowedOrder:
        order = WindowedOrder(seed, sizes, streams=1024, window=8192)
        for position in range(BATCH):
            order.view_at(position)
        return order

    clock, used = time.perf_counter(), time.process_time()
    first_batch(0)
    seconds, processor_seconds = time.perf_counter() - clock, time.process_time() - used
    tracemalloc.start()
    kept = first_batch(1)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {
        "seconds": round(seconds, 3),
        "processor_seconds": round(processor_seconds, 3),
        "held_mb": round(held / 1e6, 2),
        "peak_mb": round(peak / 1e6, 2),
        "samples": kept.length,
    }


def exact(order: WindowedOrder, positions: int) -> dict[str, Any]:
    """Draw positions of three epochs, and find the way back from each sample; none is read twice."""
    draw = np.random.default_rng(0)
    wrong, indices = 0, set()
    drawn = np.unique(draw.integers(0, 3 * SAMPLES, positions)).tolist()  # sorted, since neighbours share what a window needs
    for position in drawn:
        epoch, number = divmod(position, SAMPLES)
        index = order.index_at(epoch, number)
        wrong += not (0 <= index < SAMPLES and order.number_of(epoch, index) == number)
        indices.add((epoch, index))
    return {"positions": len(drawn), "wrong": wrong, "distinct": len(indices)}


def cost(order: Order, samples: int = 50_000) -> float:
    """Microseconds of processor time for a sample, the least of three rounds; the first sees every stream begin."""
    rounds = []
    for _ in range(3):
        begun = time.process_time()
        for position in range(samples):
            order.view_at(position)
        rounds.append((time.process_time() - begun) / samples)
    return round(1e6 * min(rounds), 2)


def openings(order: Order, ranks: int, strided: bool, samples: int) -> dict[str, Any]:
    """What one process of many opens, in the middle of an epoch: a shard counts as open from its first sample to its last."""
    plan = plan_batches(BATCH, None, World(ranks // 2, ranks), strided=strided)
    start = SAMPLES // 3 // BATCH * BATCH
    ranges = islice(plan.ranges(start), samples * ranks // BATCH)
    shards = np.array([order.view_at(p).index // SAMPLES_OF_A_SHARD for positions in ranges for p in positions])
    opened, first = np.unique(shards, return_index=True)
    last = len(shards) - 1 - np.unique(shards[::-1], return_index=True)[1]
    change = np.zeros(len(shards) + 1, dtype=np.int64)
    np.add.at(change, first, 1)
    np.add.at(change, last + 1, -1)
    return {
        "ranks": ranks,
        "samples": len(shards),
        "shards_opened": len(opened),
        "samples_per_shard_opened": round(len(shards) / len(opened), 1),
        "most_open_at_a_time": int(change.cumsum().max()),
    }


def same_for_all(order: WindowedOrder) -> bool:
    """Whether the processes of each number together read the same samples of a batch, by their positions."""
    wanted = [order.view_at(position).index for position in range(7 * BATCH, 8 * BATCH)]
    for ranks in RANKS:
        found: dict[int, int] = {}
        for rank in range(ranks):
            plan = plan_batches(BATCH, None, World(rank, ranks), strided=True)
            found |= {position: order.view_at(position).index for position in next(plan.ranges(7 * BATCH))}
        if [found[position] for position in sorted(found)] != wanted:
            return False
    return True


def main() -> None:
    """Print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--positions", type=int, default=1_000_000, help="drawn to check that the order is exact")
    parser.add_argument("--samples", type=int, default=600_000, help="read by one process, for each number of processes")
    parser.add_argument("--started", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.started:
        print(json.dumps(started()))
        return
    order, everything = windowed(), ShuffledOrder(0, SAMPLES)
    parts: dict[str, Callable[[], Any]] = {
        "start": lambda: json.loads(subprocess.check_output([sys.executable, __file__, "--started"])),
        "us_per_sample": lambda: {"windowed": cost(order), "global": cost(everything)},
        "same_for_all_ranks": lambda: same_for_all(order),
        "windowed": lambda: [openings(order, ranks, strided=True, samples=given.samples) for ranks in RANKS],
        "global": lambda: [openings(everything, ranks, strided=False, samples=given.samples // 10) for ranks in RANKS],
        "exact": lambda: exact(order, given.positions),
    }
    measure_parts(parts, {"samples": SAMPLES, "shards": SHARDS, "batch": BATCH}, given.json)


if __name__ == "__main__":
    main()
