"""What data and random numbers of a text model cost the thread that trains: made when they are needed, and made ahead.

    python benchmarks/made_ahead.py                       # latents 4x32x32, 120x4096 tokens, batch 8, five rounds in turns
    python benchmarks/made_ahead.py --json ahead.json

A cache is read, encoded batches are moved, and posterior, time, noise, drops and padding are drawn, as in training. The update
itself is a wait, as of a processor whose device computes; what the training thread does besides is counted: its processor time,
and the time by the clock between updates, both from the second update on (the first batch is always made by the thread that
trains). The sides take turns in one process.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import torch

import cache
from open_ldm.autoencoders import LatentStats
from open_ldm.conditioning import ConditioningConfig
from open_ldm.conditioning.semantic import TextSemantic
from open_ldm.core.device import set_up_machine
from open_ldm.core.distributed import World
from open_ldm.encoded.batch import EncodedBatch
from open_ldm.encoded.cache.reader import CachedData, CacheReader, ToDevice
from open_ldm.model.noising import Noising, ObjectiveInputs
from open_ldm.process.time_density import LogitNormalTimes
from open_ldm.text import WordsConfig
from open_ldm.training.loop import Hooks, Loop
from open_ldm.training.plan import plan_batches
from open_ldm.training.settings import TrainingConfig
from open_ldm.training.state import Counters
from open_ldm.training.trainer import Update

DEPTHS = (0, 2)


@dataclass(frozen=True)
class Cost:
    """Milliseconds of the training thread for each sample, beside the update: its processor's, and by the clock."""

    depth: int
    processor_ms: float
    clock_ms: float


@dataclass
class _State:
    counters: Counters


class Waiting:
    """In place of a trainer: it draws what the objective draws, and then waits for a device that computes."""

    lags = False

    def __init__(self, noising: Noising, config: TrainingConfig, device_seconds: float) -> None:
        self.noising, self.config, self.device, self.world = noising, config, noising.device, World()
        self.state, self.device_seconds = _State(Counters()), device_seconds
        self.clock = self.processor = 0.0

    def prepared(self, batch: EncodedBatch) -> ObjectiveInputs:
        """As a trainer of diffusion models."""
        return self.noising.draw(batch)

    def update(self, micro_batches: Sequence[ObjectiveInputs]) -> Update:
        """Draw the noise, wait."""
        for batch in micro_batches:
            batch.draws.normal("noise", batch.x_0.shape[1:])
        started = time.perf_counter()
        time.sleep(self.device_seconds)
        if self.state.counters.updates == 0:
            self.clock, self.processor = time.perf_counter(), time.thread_time()
        else:
            self.clock += time.perf_counter() - started
        self.state.counters.samples_seen += self.config.batch_size
        self.state.counters.updates += 1
        return Update(1.0, 1.0, 1e-4, True)


def cost(data: CachedData, depth: int, batch: int, updates: int, device_seconds: float, readers: int) -> Cost:
    """Train `updates` batches and count."""
    device = torch.device("cpu")
    conditioning = ConditioningConfig(
        semantic=TextSemantic(encoder=WordsConfig(length=cache.TOKENS, width=cache.WIDTH)), controls=cache.CONTROLS
    )
    stats = LatentStats((0.0,) * cache.LATENT[0], (1.0,) * cache.LATENT[0])
    config = TrainingConfig(samples=updates * batch, batch_size=batch, checkpoint_every_samples=10**9)
    trainer: Any = Waiting(Noising(0, batch, stats, conditioning, LogitNormalTimes(), None, device), config, device_seconds)
    plan = plan_batches(batch, None, World())
    read = CacheReader(data, 0, cache.CONTROLS).batches(islice(plan.ranges(0), updates), readers)
    hooks = Hooks(lambda report: None, lambda read: None, lambda update: None, lambda: False, lambda: False)
    Loop(trainer, plan, read, ToDevice(device), hooks, depth).run()
    processor, clock = time.thread_time() - trainer.processor, time.perf_counter() - trainer.clock
    samples = (updates - 1) * batch
    return Cost(depth, 1e3 * processor / samples, 1e3 * clock / samples)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure both sides in turns, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--updates", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, nargs=2, default=(120, 4096), metavar=("LENGTH", "WIDTH"))
    parser.add_argument("--device-ms", type=float, default=30.0, help="of each sample: how long the device is said to compute")
    parser.add_argument("--readers", type=int, default=1, help="threads that read the cache")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args(arguments)
    set_up_machine("cpu")
    cache.TOKENS, cache.WIDTH = args.tokens
    found: dict[int, list[Cost]] = {depth: [] for depth in DEPTHS}
    with tempfile.TemporaryDirectory() as folder:
        data = cache.make_cache(Path(folder), args.batch * args.updates, "bfloat16", 1)
        for number in range(args.rounds + 1):
            for depth in DEPTHS:
                one = cost(data, depth, args.batch, args.updates, args.batch * args.device_ms / 1e3, args.readers)
                if number:  # the first round warms files and allocator
                    found[depth].append(one)
    rows = [
        Cost(depth, median(one.processor_ms for one in each), median(one.clock_ms for one in each))
        for depth, each in found.items()
    ]
    title = f"{args.tokens[0]}x{args.tokens[1]} tokens, batch {args.batch}, {torch.get_num_threads()} threads, torch"
    print(f"{title} {torch.__version__}; of the training thread, each sample:")
    for row in rows:
        how = f"{row.depth} made ahead" if row.depth else "made when needed"
        print(f"  {how:>16}: {row.processor_ms:.3f} ms of a processor, {row.clock_ms:.3f} ms by the clock")
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
