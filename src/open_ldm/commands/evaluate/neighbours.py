"""Does a run repeat its training pictures? The report: shares, distances, and a sheet of the nearest pairs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from open_ldm.commands.evaluate.config import NeighboursMetric
from open_ldm.commands.evaluate.pictures import EvaluatedPictures, picture_of
from open_ldm.core.display import as_shown
from open_ldm.core.pictures import grid, save_png
from open_ldm.data.sample import Source
from open_ldm.evaluation.bootstrap import BootstrapConfig
from open_ldm.evaluation.neighbours import Neighbours, nearest_training
from open_ldm.evaluation.protocol import Result, build_protocol
from open_ldm.evaluation.statistics import Statistics

SHEET = "neighbours.png"
_PAIRS_A_ROW = 4


@dataclass(frozen=True)
class NeighbourReport:
    """`result`: share of copies among the samples; `held_out`: the same of pictures that were never trained on, where there
    are some; medians of the distance to the nearest training picture: of the samples, of those pictures, and of every
    training picture to its nearest other one. `found`: the neighbours of every sample."""

    result: Result
    held_out: Result | None
    median: float
    median_held_out: float | None
    median_training: float
    found: Neighbours

    def to_json(self) -> dict[str, Any]:
        """Plain data, with the nearest pairs first."""
        order = self.found.distances[:, 0].argsort()[:32].tolist()
        nearest = [
            {"sample": int(self.found.samples[i]), "training": int(self.found.training[i, 0]),
             "distance": float(self.found.distances[i, 0]), "rank": float(self.found.ranks[i])}
            for i in order
        ]  # fmt: skip
        return {
            "median_distance": self.median,
            "median_distance_held_out": self.median_held_out,
            "median_distance_training": self.median_training,
            "nearest": nearest,
        }

    def text(self) -> str:
        """A sentence for people."""
        held = "" if self.median_held_out is None else f", of held-out pictures {self.median_held_out:.3g}"
        return (
            f"distance to the nearest training picture, median: {self.median:.3g}{held}, "
            f"of training pictures to one another {self.median_training:.3g}"
        )


def report_neighbours(
    samples: Statistics,
    training: Statistics,
    held_out: Statistics | None,
    metric: NeighboursMetric,
    bootstrap: BootstrapConfig,
    sampling: dict[str, str] | None,
) -> NeighbourReport:
    """Build the report from statistics of samples, training pictures and held-out ones. Raises as `nearest_training`."""
    found = nearest_training(samples, training)
    real = None if held_out is None else nearest_training(held_out, training)

    def result(of: Neighbours, seen: Statistics, name: str, how: dict[str, str] | None) -> Result:
        """Return the share of copies with the protocol of its pictures."""
        protocol = build_protocol(
            f"copies(level={metric.level:g})", seen.extractor, seen.pictures.size_px, str(len(seen.rows)), bootstrap,
            reference=training.pictures.hash, reference_n=str(training.pictures.count), sampling=how,
        )  # fmt: skip
        return Result(replace(of.copies(metric.level, bootstrap), name=name), protocol)

    return NeighbourReport(
        result(found, samples, "copies", sampling),
        None if real is None or held_out is None else result(real, held_out, "copies_held_out", None),
        _median(found.distances),
        None if real is None else _median(real.distances),
        _median(found.typical),
        found,
    )


def write_sheet(report: NeighbourReport, evaluated: EvaluatedPictures, training: Source, shown: int, folder: Path) -> Path:
    """Write neighbours.png: the samples nearest to a training picture, each beside it."""
    found = report.found
    order = found.distances[:, 0].argsort()[:shown].tolist()
    pixels = evaluated.pixels([int(found.samples[i]) for i in order])
    tiles: list[Tensor] = []
    captions: list[str] = []
    for row, index in enumerate(order):
        pair = pixels[row], picture_of(training, int(found.training[index, 0]), evaluated.size_px)
        tiles += [as_shown(one, evaluated.display) for one in pair]
        captions += [
            f"sample {int(found.samples[index])}",
            f"{float(found.distances[index, 0]):.3g}, rank {float(found.ranks[index]):.1%}",
        ]
    save_png(folder / SHEET, grid(tiles, 2 * _PAIRS_A_ROW, captions=captions))
    return folder / SHEET


def _median(distances: Tensor) -> float:
    return float(distances.reshape(len(distances), -1)[:, 0].median())
