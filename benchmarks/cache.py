"""Samples per second out of a cache in warm memory: latents 4x32x32 with 77x768 text tokens in bf16, in training order.

    python benchmarks/cache.py                            # 6,000 samples (about 0.9 GB), batches of 64, 0 to 2 threads
    python benchmarks/cache.py --samples 20000 --latents float32 --folder /data/bench --json cache.json

Beside it, in turns in the same process, the machine's own limit: the same number of bytes copied from warm memory-mapped files
into memory that is used again and again, with as many threads and nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor

from open_ldm.controls import AspectRatio, Crop, Flip, OriginalSize
from open_ldm.core.device import set_up_machine
from open_ldm.data.sample import TransformRecord
from open_ldm.data.transforms import TransformConfig
from open_ldm.encoded.cache.build import Work, fill
from open_ldm.encoded.cache.config import DTYPES, StoredDtype
from open_ldm.encoded.cache.mapped import MappedSection
from open_ldm.encoded.cache.reader import CachedData, CacheReader
from open_ldm.encoded.cache.records import record_columns
from open_ldm.encoded.cache.section import Section, SectionPlan, ShardContent

LATENT, TOKENS, WIDTH = (4, 32, 32), 77, 768
CONTROLS = (OriginalSize(), Crop(), Flip(), AspectRatio())
ROWS_PER_SHARD = 128
RECORD = TransformRecord(480, 640, 256, 341, 0, 40, 256, 256, True)
ROUNDS = 5


@dataclass(frozen=True)
class Rate:
    """Medians over the rounds: samples per second of the reader and of bare copies of as many bytes, and the microseconds of
    processor time that a sample takes of each, which mean something on a busy machine too."""

    threads: int
    samples_per_second: float
    gigabytes_per_second: float
    processor_us: float
    bare_samples_per_second: float
    bare_processor_us: float


@dataclass(frozen=True)
class Spent:
    """Seconds by the clock and of processor time, all threads together."""

    seconds: float
    processor_seconds: float


class Stopwatch:
    """Starts when it is made."""

    def __init__(self) -> None:
        self._clock, self._processor = time.perf_counter(), time.process_time()

    def read(self) -> Spent:
        """What was spent since."""
        return Spent(time.perf_counter() - self._clock, time.process_time() - self._processor)


def make_cache(folder: Path, samples: int, latents: StoredDtype, captions: int) -> CachedData:
    """A cache of random numbers; every caption fills all its places, the most there is to copy. `captions`: per sample."""
    noise = torch.Generator().manual_seed(0)

    def latent_shard(rows: range) -> dict[str, Tensor]:
        drawn = torch.randn(2, len(rows), *LATENT, generator=noise).to(DTYPES[latents])
        records = record_columns([RECORD] * len(rows), TransformConfig(size_px=RECORD.height_px))
        return {"mean": drawn[0], "std": drawn[1], **records, "index": torch.arange(rows.start, rows.stop)}

    def text_shard(rows: range) -> dict[str, Tensor]:
        number = len(rows) * captions
        return {
            "tokens": torch.randn(number * TOKENS, WIDTH, generator=noise).bfloat16(),
            "mask": torch.ones(number, TOKENS, dtype=torch.bool),
            "begin": torch.arange(number + 1) * TOKENS,
            "first": torch.arange(len(rows) + 1) * captions,
            "captions": torch.arange(number, dtype=torch.int32),
        }

    def sample_shard(rows: range) -> dict[str, Tensor]:
        return {"label": torch.zeros(len(rows), dtype=torch.long)}

    opened = []
    for kind, make in (("latents", latent_shard), ("text", text_shard), ("samples", sample_shard)):
        plan = SectionPlan(kind, {"benchmark": [samples, latents, captions]}, samples)
        section = Section(folder, plan, lambda: ROWS_PER_SHARD)

        def shards(claimed: Iterator[int], section: Section = section, make=make) -> Iterator[tuple[int, ShardContent]]:
            for shard in claimed:
                yield shard, ShardContent(make(section.rows_of(shard)))

        fill(section, shards, Work())
        section.close()
        opened.append(MappedSection(section))
    return CachedData([opened[0]], opened[1], opened[2], samples)


def read_epochs(data: CachedData, batch: int, threads: int, start: int) -> tuple[Spent, int]:
    """What it takes, in bytes too, to read every sample once, from position `start` on, in the order of training."""
    reader = CacheReader(data, seed=0, controls=CONTROLS)
    ranges = [range(start + begin, start + begin + batch) for begin in range(0, data.length - batch + 1, batch)]
    copied = 0
    watch = Stopwatch()
    for encoded in reader.batches(ranges, threads):
        assert encoded.posterior.std is not None and encoded.text is not None
        copied += encoded.posterior.mean.nbytes + encoded.posterior.std.nbytes + encoded.text.tokens.nbytes
    return watch.read(), copied


def copy_bare(data: CachedData, batch: int, threads: int) -> Spent:
    """What it takes to copy the same rows in the same portions, each thread into memory of its own, and nothing more."""
    assert data.text is not None
    text, count = data.text, data.length // batch
    order = np.random.default_rng(0).permutation(data.length)[: count * batch].reshape(count, batch)

    def copy(portions: np.ndarray) -> None:
        arrays, _ = data.latents[0].at(0)
        means = np.empty((batch, *arrays["mean"].shape[1:]), arrays["mean"].dtype)
        stds, tokens = np.empty_like(means), np.empty((batch, TOKENS, WIDTH), np.int16)
        for rows in portions:
            for place, row in enumerate(rows.tolist()):
                arrays, at = data.latents[0].at(row)
                means[place], stds[place] = arrays["mean"][at], arrays["std"][at]
                arrays, at = text.at(row)
                tokens[place] = arrays["tokens"][at * TOKENS : (at + 1) * TOKENS]

    watch = Stopwatch()
    with ThreadPoolExecutor(max(1, threads)) as pool:
        list(pool.map(copy, np.array_split(order, max(1, threads))))
    return watch.read()


def measure(data: CachedData, batch: int, threads: int) -> Rate:
    """Reader and bare copies in turns."""
    reads: list[Spent] = []
    copies: list[Spent] = []
    copied = 0
    for number in range(ROUNDS + 1):
        spent, copied = read_epochs(data, batch, threads, number * data.length)
        bare = copy_bare(data, batch, threads)
        if number:  # the first round warms files, maps and allocator
            reads.append(spent)
            copies.append(bare)
    samples = data.length // batch * batch
    seconds, bare_seconds = (median(each.seconds for each in spent) for spent in (reads, copies))
    processor, bare_processor = (median(each.processor_seconds for each in spent) for spent in (reads, copies))
    return Rate(
        threads=threads,
        samples_per_second=samples / seconds,
        gigabytes_per_second=copied / seconds / 1e9,
        processor_us=1e6 * processor / samples,
        bare_samples_per_second=samples / bare_seconds,
        bare_processor_us=1e6 * bare_processor / samples,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write JSON where asked."""
    parser = argparse.ArgumentParser(description="Samples per second out of a cache in warm memory.")
    parser.add_argument("--samples", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--latents", choices=["float32", "bfloat16"], default="bfloat16")
    parser.add_argument("--captions", type=int, default=1, help="captions of each sample")
    parser.add_argument("--folder", type=Path, help="where to put the cache; a temporary folder by default")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures as JSON")
    args = parser.parse_args(arguments)
    set_up_machine("cpu")  # its allocator settings are those of training
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        data = make_cache(Path(folder), args.samples, args.latents, args.captions)
        rates = [measure(data, args.batch, threads) for threads in args.threads]
    title = f"latents 4x32x32 mean and std {args.latents}, {TOKENS}x{WIDTH} tokens bfloat16, batches of {args.batch}"
    print(f"{title}, {args.samples:,} samples in warm memory, torch {torch.__version__}")
    for rate in rates:
        print(
            f"  {rate.threads} threads: {rate.samples_per_second:8,.0f} samples/s ({rate.gigabytes_per_second:.2f} GB/s),"
            f" {rate.processor_us:5.1f} µs of a processor each; bare copies {rate.bare_samples_per_second:8,.0f} samples/s,"
            f" {rate.bare_processor_us:5.1f} µs"
        )
    if args.json:
        args.json.write_text(json.dumps({"setting": title, "rates": [asdict(rate) for rate in rates]}, indent=2) + "\n")
        print(f"written: {args.json}", file=sys.stderr)


if __name__ == "__main__":
    main()
