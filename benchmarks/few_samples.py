"""Which distance ranks sets of pictures right when there are few of each: Fréchet, kernel or sliced Wasserstein.

    python benchmarks/few_samples.py ../shared/data/cifar10 --features features --json few.json
    python benchmarks/few_samples.py ../shared/data/cifar10 --features features --limit 500 --draws 3      # a quick look

`graded_pictures.py` makes ten sets of about 8,000 photographs each whose quality is known and finely graded. Their order by the
Fréchet distance of all pictures is one truth, and its half of the pairs that lie farther apart an easier one. The order of
strength within a family of changes is another, which favours no metric. The order by the same metric on all pictures is a
third, which shows the noise of few pictures alone. Then a part of each set (a third, a tenth ...) is drawn anew and ranked by
each metric, always against the whole reference. The draws of the sets are independent, as pictures of different models are, and
the same for all metrics. Agreement is Kendall's tau: 1 for the same order, 0 for none. Intervals (95 %) are of the mean.

A draw at one size is a cell. The file is written after each, and the same command goes on with the rest.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from itertools import combinations
from math import sqrt
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor

from figures import processor
from graded_pictures import GRADES, Graded, extractor_of, features_of, graded_sets, known_pairs, parts_of
from open_ldm.commands.evaluate.stored_pictures import open_pictures
from open_ldm.core import seeds
from open_ldm.core.files import write_json
from open_ldm.evaluation.bank import Rows
from open_ldm.evaluation.bootstrap import BootstrapConfig
from open_ldm.evaluation.features.base import ExtractorId
from open_ldm.evaluation.metrics import KIDConfig, SlicedWassersteinConfig
from open_ldm.evaluation.metrics.fid import Gaussian, Root
from open_ldm.evaluation.metrics.sliced_wasserstein import directions, project, squared_distances
from open_ldm.evaluation.moments import Moments
from open_ldm.evaluation.pictures import PictureSet
from open_ldm.evaluation.statistics import Statistics

METRICS = ("fid", "kid", "sliced_wasserstein")
TRUTHS = {"fd": "FD of all", "far": "FD of all, far apart", "strength": "known strength", "own": "itself of all"}
ALL = "all"
KID_OF_ALL = KIDConfig()
"""KID reads at most 1,000 pictures of a set at a time: a few such subsets are much noisier than all pictures are."""
_QUICK = BootstrapConfig(replicates=20)
"""Intervals of single values are not read."""
_NORMAL = 1.959964


class Distances:
    """All metrics against one reference, by the project's own functions; what the reference alone decides is done once."""

    def __init__(self, reference: Tensor, kid: KIDConfig, sliced: SlicedWassersteinConfig) -> None:
        self.kid, self.dim = kid, reference.shape[1]
        self.reference = statistics_of(reference)
        self.root = Root(_gaussian(self.reference))
        self.along = directions(self.dim, sliced.directions, sliced.seed)
        self.projected = project(reference, self.along)

    def measure(self, vectors: Tensor, kid: KIDConfig | None = None) -> dict[str, float]:
        """Return the value of each metric for the features [n, D] of a set of pictures; `kid`: other settings of KID."""
        samples = statistics_of(vectors)
        (kernel,) = (kid or self.kid).measure(samples, self.reference, _QUICK)
        sliced = self.dim * squared_distances(project(vectors, self.along), self.projected).mean()
        values = self.root.distance(_gaussian(samples)), kernel.value, float(sliced)
        return dict(zip(METRICS, values, strict=True))


def statistics_of(vectors: Tensor) -> Statistics:
    """Features [n, D] as the metrics read them."""
    moments, numbers = Moments.empty(vectors.shape[1]), torch.arange(len(vectors))
    moments.add(vectors)
    return Statistics(ExtractorId("given", "", ""), PictureSet(len(vectors)), moments, Rows(numbers, numbers, vectors))


def _gaussian(statistics: Statistics) -> Gaussian:
    return Gaussian(statistics.moments.mean, statistics.moments.covariance)


def drawn(graded: Graded, count: int, draw: int) -> Tensor:
    """Features of `count` pictures of a set. The draws of different sets are independent; smaller ones are part of larger."""
    order = torch.randperm(len(graded.vectors), generator=seeds.generator(0, f"few samples, {graded.name}", draw))
    return graded.vectors[order[:count]]


def kendall(values: Sequence[float], pairs: Sequence[tuple[int, int]]) -> float:
    """Kendall's tau of `values` with an order: 1 where the first of each pair is lower, -1 where it is higher; ties count 0."""
    signs = [(values[one] < values[other]) - (values[one] > values[other]) for one, other in pairs]
    return sum(signs) / len(signs)


def pairs_by(values: Sequence[float]) -> list[tuple[int, int]]:
    """Return all pairs of indices whose values differ, the lower one first."""
    pairs = (pair if values[pair[0]] < values[pair[1]] else pair[::-1] for pair in combinations(range(len(values)), 2))
    return [(one, other) for one, other in pairs if values[one] < values[other]]


def farther_half(values: Sequence[float], pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the half of the pairs whose values differ more, of an odd number one more than the other half."""
    return sorted(pairs, key=lambda pair: values[pair[0]] - values[pair[1]])[: (len(pairs) + 1) // 2]


def agreements(
    found: Mapping[str, Sequence[float]], whole: Mapping[str, Sequence[float]], known: Sequence[tuple[int, int]]
) -> dict[str, dict[str, float]]:
    """Return tau by metric and truth: {metric: {truth: tau}}, of the values of one draw; `whole`: those of all pictures."""
    by_fd = pairs_by(whole["fid"])
    far = farther_half(whole["fid"], by_fd)
    return {
        metric: {
            "fd": kendall(values, by_fd),
            "far": kendall(values, far),
            "strength": kendall(values, known),
            "own": kendall(values, pairs_by(whole[metric])),
        }
        for metric, values in found.items()
    }


def mean_interval(values: Sequence[float]) -> dict[str, float]:
    """Mean over at least two draws and its 95 % interval."""
    middle, reach = mean(values), _NORMAL * stdev(values) / sqrt(len(values))
    return {"mean": middle, "low": middle - reach, "high": middle + reach}


def summary(cells: Mapping[str, Mapping[str, Any]], known: Sequence[tuple[int, int]]) -> list[dict[str, Any]]:
    """Return a row for each size, metric and truth: mean tau; by how much it is above FD's and KID's at the same size, draw by
    draw, and above FD's at ten times the pictures, where that was measured. Sizes with one draw so far are left out."""
    whole = cells[ALL]["values"]
    taus: dict[int, list[dict[str, dict[str, float]]]] = {}
    for name, cell in cells.items():
        if name != ALL:
            taus.setdefault(int(cell["pictures"]), []).append(agreements(cell["values"], whole, known))
    taus = {size: found for size, found in sorted(taus.items(), reverse=True) if len(found) > 1}
    rows = []
    for size, found in taus.items():
        larger = next((taus[each] for each in taus if abs(each / size - 10) < 0.5), None)
        for truth in TRUTHS:
            for metric in METRICS:
                own = [each[metric][truth] for each in found]
                row = {"pictures": size, "truth": truth, "metric": metric, "draws": len(own), "tau": mean_interval(own)}
                row["above_fd"] = mean_interval(_differences(own, found, "fid", truth))
                row["above_kid"] = mean_interval(_differences(own, found, "kid", truth))
                if larger is not None:
                    row["above_fd_of_ten_times"] = mean_interval(_differences(own, larger, "fid", truth))
                rows.append(row)
    return rows


def _differences(
    own: Sequence[float], others: Sequence[Mapping[str, Mapping[str, float]]], metric: str, truth: str
) -> list[float]:
    """Of tau from that of another metric, draw by draw, as far as both go."""
    return [one - other[metric][truth] for one, other in zip(own, others, strict=False)]


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows in Markdown."""
    names = ("pictures", "metric", "truth", "tau", "above FD", "above KID", "above FD of ten times as many")
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]

    def shown(found: Mapping[str, float] | None) -> str:
        return "" if found is None else f"{found['mean']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"

    for row in rows:
        cells = [f"{row['pictures']:,}", row["metric"], TRUTHS[row["truth"]]]
        cells += [shown(row[name]) if name in row else "" for name in ("tau", "above_fd", "above_kid", "above_fd_of_ten_times")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def cells_of(sets: Sequence[Graded], parts: Sequence[int], draws: int) -> Iterator[tuple[str, int, int]]:
    """Name, pictures and number of the draw of every cell; that of all pictures first."""
    count = len(sets[0].vectors)
    yield ALL, count, 0
    for draw in range(draws):
        for part in parts:
            yield f"1/{part}, draw {draw}", count // part, draw


def measured(distances: Distances, sets: Sequence[Graded], name: str, count: int, draw: int) -> dict[str, Any]:
    """One cell: the values of every metric in the order of the sets, and the processor's seconds."""
    start = time.process_time()
    kid = KID_OF_ALL if name == ALL else None
    values = [distances.measure(drawn(each, count, draw), kid) for each in sets]
    columns = {metric: [each[metric] for each in values] for metric in METRICS}
    return {"pictures": count, "seconds": round(time.process_time() - start, 2), "values": columns}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the cells that the file does not hold yet; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with train-*.tar and test-*.tar, labelled")
    parser.add_argument("--features", type=Path, required=True, help="of the fitted extractor; fitted where it is not there")
    parser.add_argument("--grades", choices=list(GRADES), default="fine", help="how far the strengths lie apart")
    parser.add_argument("--parts", nargs="+", type=int, default=[3, 10, 30, 100], help="10: a tenth of the pictures, and so on")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--directions", type=int, default=256, help="of sliced Wasserstein")
    parser.add_argument("--subsets", type=int, default=10, help="of KID, of draws; all pictures take its default")
    parser.add_argument("--limit", type=int, help="pictures of the reference and of each set, at most")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args(arguments)
    if args.draws < 2:
        parser.error(f"--draws {args.draws}: an interval needs at least 2")
    train, test = (open_pictures(args.data / f"{part}-*.tar") for part in ("train", "test"))
    fitted_on, reference, photographs = parts_of(train, test, args.limit)
    extractor = extractor_of(fitted_on, args.features)
    sets = graded_sets(extractor, photographs, GRADES[args.grades])
    kid, sliced = KIDConfig(subsets=args.subsets), SlicedWassersteinConfig(directions=args.directions)
    settings = {
        "extractor": extractor.id.to_json(),
        "reference": len(reference.labels),
        "sets": [each.name for each in sets],
        "pictures": len(photographs.labels),
        "metrics": ["fid", kid.protocol, f"{KID_OF_ALL.protocol} of all pictures", sliced.protocol],
    }
    report: dict[str, Any] = {"date": date.today().isoformat(), "processor": processor(), "settings": settings, "cells": {}}
    if args.json and args.json.is_file():
        report = json.loads(args.json.read_text(encoding="utf-8"))
        if report["settings"] != settings:
            sys.exit(f"error: {args.json} was measured with other settings or pictures; give another --json")
    distances = Distances(features_of(extractor, reference.pixels), kid, sliced)
    known = known_pairs(sets)
    for name, count, draw in cells_of(sets, args.parts, args.draws):
        if name not in report["cells"]:
            report["cells"][name] = measured(distances, sets, name, count, draw)
            report["rows"] = summary(report["cells"], known)
            print(f"{name}: {count:,} pictures, {report['cells'][name]['seconds']:.1f} s", flush=True)
            if args.json:
                write_json(args.json, report)
    whole = report["cells"][ALL]["values"]
    for metric, found in agreements(whole, whole, known).items():
        print(f"{metric} of all pictures: tau {found['fd']:.3f} with FD's order, {found['strength']:.3f} with the known one")
    print(table(report["rows"]))


if __name__ == "__main__":
    main()
