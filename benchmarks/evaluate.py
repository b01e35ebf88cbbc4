"""Where the time goes when pictures are measured: the extractor, or the statistics around it.

    python benchmarks/evaluate.py                                     # Inception with random weights, 256 pictures of 64 px
    python benchmarks/evaluate.py --extractor random --pictures 10000 --json evaluate.json
    python benchmarks/evaluate.py --weights pt_inception-2015-12-05-6726825d.pth

Pictures lie in memory, so reading and drawing them count on neither side. `other work` is everything in the pass that is not
the extractor: rounding, hashes, moments, the bank. Random weights cost what trained ones do. On a CPU the seconds are those of
the process, all threads together, so that what else runs on the machine does not count; on a GPU they are the clock's.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file
from torch import Tensor

from open_ldm.core.device import DeviceName, set_up_machine
from open_ldm.evaluation.bootstrap import BootstrapConfig
from open_ldm.evaluation.features import FeatureExtractor, Features, InceptionConfig, RandomConfig, build_extractor
from open_ldm.evaluation.features.inception import InceptionV3
from open_ldm.evaluation.measure import measure
from open_ldm.evaluation.metrics import FIDConfig, KIDConfig
from open_ldm.evaluation.pictures import Pictures
from open_ldm.evaluation.statistics import Statistics, collect

ExtractorName = Literal["inception", "random"]


@dataclass(frozen=True)
class Report:
    """Seconds of one pass and of the metrics after it. `other_share`: of the pass, outside the extractor."""

    date: str
    machine: str
    torch: str
    extractor: str
    dim: int
    pictures: int
    size_px: int
    pass_seconds: float
    extractor_seconds: float
    other_share: float
    metric_seconds: dict[str, float]


@dataclass(frozen=True)
class Clock:
    """Seconds of the device's kind."""

    device: torch.device

    def now(self) -> float:
        """Once the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.process_time() if self.device.type == "cpu" else time.perf_counter()


class Timed:
    """An extractor that counts its own seconds."""

    def __init__(self, extractor: FeatureExtractor, clock: Clock) -> None:
        self.extractor, self.clock = extractor, clock
        self.id, self.dim = extractor.id, extractor.dim
        self.seconds = 0.0

    def extract(self, images: Tensor) -> Features:
        """As the extractor, with the clock running."""
        start = self.clock.now()
        found = self.extractor.extract(images)
        self.seconds += self.clock.now() - start
        return found


def pictures(count: int, size_px: int, batch: int) -> Iterator[Pictures]:
    """`count` pictures of noise, the same batch again and again, which no part of the work notices and nothing copies."""
    source = torch.rand(batch, 3, size_px, size_px, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for start in range(0, count, batch):
        numbers = tuple(range(start, min(start + batch, count)))
        yield Pictures(source[: len(numbers)], numbers)


def run(name: ExtractorName, weights: str | None, count: int, size_px: int, batch: int, device: DeviceName = "auto") -> Report:
    """Measure one pass after a warm-up, then the metrics."""
    machine = set_up_machine(device, "float32")
    with tempfile.TemporaryDirectory() as folder:
        clock = Clock(machine.device)
        timed = Timed(build_extractor(_config(name, weights, Path(folder)), machine.device), clock)
    collect(pictures(batch, size_px, batch), [timed])
    timed.seconds = 0.0
    start = clock.now()
    (statistics,) = collect(pictures(count, size_px, batch), [timed])
    seconds = clock.now() - start
    return Report(
        date=datetime.now(UTC).date().isoformat(),
        machine=machine.sentence,
        torch=torch.__version__,
        extractor=timed.id.name,
        dim=timed.dim,
        pictures=count,
        size_px=size_px,
        pass_seconds=seconds,
        extractor_seconds=timed.seconds,
        other_share=1 - timed.seconds / seconds,
        metric_seconds=_metric_seconds(statistics, clock),
    )


def _config(name: ExtractorName, weights: str | None, folder: Path) -> InceptionConfig | RandomConfig:
    if name == "random":
        return RandomConfig()
    if weights is None:
        weights = str(folder / "random.safetensors")
        state = InceptionV3().state_dict()
        save_file({key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}, weights)
    return InceptionConfig(path=weights)


def _metric_seconds(statistics: Statistics, clock: Clock) -> dict[str, float]:
    """Of each metric with a bootstrap of 20 replicates, or nothing where it refuses so few pictures."""
    taken = {}
    for metric in (FIDConfig(), KIDConfig()):
        start = clock.now()
        if measure([metric], statistics, statistics, bootstrap=BootstrapConfig(replicates=20)).results:
            taken[metric.kind] = clock.now() - start
    return taken


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extractor", choices=["inception", "random"], default="inception")
    parser.add_argument("--weights", help="Inception's published file; random weights without it")
    parser.add_argument("--pictures", type=int, default=256)
    parser.add_argument("--size", type=int, default=64, help="side of the pictures in px")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--json", type=Path, help="write the report here too")
    given = parser.parse_args(arguments)
    report = run(given.extractor, given.weights, given.pictures, given.size, given.batch, given.device)
    print(f"{report.extractor} ({report.dim} features) on {report.machine}, torch {report.torch}")
    print(f"{report.pictures:,} pictures of {report.size_px} px: {report.pass_seconds:.2f} s, "
          f"of which the extractor {report.extractor_seconds:.2f} s; other work {report.other_share:.1%}")  # fmt: skip
    for metric, seconds in report.metric_seconds.items():
        print(f"{metric} with 20 bootstrap replicates: {seconds:.2f} s")
    if given.json:
        given.json.write_text(json.dumps(asdict(report), indent=2) + "\n")


if __name__ == "__main__":
    main()
