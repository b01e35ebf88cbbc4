"""Does it pay to start from another model, and how? Small twins of figure 8 and table 4 of arXiv 2411.03177.

    python benchmarks/transfer.py shapes  --out runs/transfer    # captions, 32 -> 64 px; estimated 2 hours on two idle cores
    python benchmarks/transfer.py emoji   --out runs/transfer    # the same on drawings; estimated 3.5 hours
    python benchmarks/transfer.py classes --out runs/transfer    # cifar10 classes -> emoji captions, 32 px; estimated 1 hour

Every arm trains on the same samples from a start of its own; three seeds each. Held-out pictures are noised to fixed levels
(log-SNR of a pixel), whatever schedule an arm was trained with, so that the arms answer the same questions: the mean squared
error of the velocity, by level and over all of them. On shapes also the share of drawn pictures that agree with their caption.
The same command goes on where it stopped. Written: OUT/STUDY/table.md, results.json, error.svg, for shapes agreement.svg.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from open_ldm.checkpoints.checkpoint import CheckpointFolder
from open_ldm.checkpoints.names import samples_seen_of
from open_ldm.commands.demo import caption_groups
from open_ldm.commands.sample import sample_pixels
from open_ldm.commands.sample_options import settings_from
from open_ldm.core.device import set_up_machine
from open_ldm.core.files import write_json, write_text
from open_ldm.data.sample import Source
from open_ldm.data.shape_words import shapes_in
from open_ldm.data.survey import survey
from open_ldm.evaluation.shape_attributes import agreement, mean_agreement
from open_ldm.model.noising import Noising
from open_ldm.pages.charts import Plot, Series
from open_ldm.pages.figures import save_figure
from open_ldm.process.schedules import Schedule
from open_ldm.process.time_density import UniformTimes
from open_ldm.runs.batches import live_batches
from open_ldm.runs.build import read_facts
from open_ldm.runs.encoders import Encoders, build_encoder, load_encoders
from open_ldm.runs.load import LoadedRun, load_run
from open_ldm.runs.recipe import Recipe, load_recipe
from open_ldm.runs.saving import is_due
from open_ldm.runs.train import train
from open_ldm.sampling.requests import SampleRequest
from open_ldm.sources.loader import open_data, read_batches
from open_ldm.sources.shapes import ShapesConfig, ShapesSource

LOG_SNRS = (-6.0, -4.0, -2.0, 0.0, 2.0, 4.0)
HELD_OUT_PICTURES = 200
DRAWN = 40
LARGE = ("data.transform.size_px=64", "data.transform.crop={kind: global}")


@dataclass(frozen=True)
class Arm:
    """How a run starts: from `source`, a pre-training of the study, under `options` of init_from; or from nothing."""

    source: str | None = None
    options: str = ""


@dataclass(frozen=True)
class Study:
    """`sources`: pre-trainings by name; `target`: what every arm trains; both as changes to `recipe`."""

    recipe: str
    sources: dict[str, tuple[str, ...]]
    target: tuple[str, ...]
    arms: dict[str, Arm]
    pretrain: int
    samples: int


def _resolutions() -> dict[str, Arm]:
    return {
        "from scratch": Arm(),
        "extrapolate": Arm("small", "positions: extrapolate, rescale_noise: false"),
        "resample": Arm("small", "positions: resample, rescale_noise: false"),
        "resample, noise rescaled": Arm("small", "positions: resample, rescale_noise: true"),
        "the same, pre-trained on local crops": Arm("local", "positions: resample, rescale_noise: true"),
    }


_SMALL = {
    "small": ("data.transform.size_px=32", "data.transform.crop={kind: global}"),
    "local": ("data.transform.size_px=32", "data.transform.crop={kind: local, scale_px: 64}"),
}
_HELD_OUT = "data.holdout={share: 0.1}"
STUDIES = {
    "shapes": Study("demo", _SMALL, LARGE, _resolutions(), pretrain=48000, samples=16000),
    "emoji": Study(
        "emoji-mmdit",
        {name: (*changes, _HELD_OUT) for name, changes in _SMALL.items()},
        (*LARGE, _HELD_OUT),
        _resolutions(),
        pretrain=64000,
        samples=16000,
    ),
    "classes": Study(
        "emoji-mmdit",
        {
            "classes": (
                "data.source={kind: shards, path: ../shared/data/cifar10/train-*.tar}",
                "conditioning.semantic={kind: class, route: context}",
            )
        },
        (_HELD_OUT,),
        {"from scratch": Arm(), "from cifar10 classes": Arm("classes")},
        pretrain=64000,
        samples=32000,
    ),
}


@dataclass(frozen=True)
class Point:
    """An arm's averaged weights after `samples`: error of the velocity at each level, and agreement with captions."""

    samples: int
    levels: tuple[float, ...]
    agreement: float | None

    @property
    def error(self) -> float:
        """Over all levels."""
        return statistics.fmean(self.levels)


class Runner:
    """Trains and measures the arms of one study in `out`."""

    def __init__(self, study: Study, out: Path, samples: int, pretrain: int, points: int, changes: Sequence[str]) -> None:
        self.study, self.out, self.samples, self.pretrain, self.changes = study, out, samples, pretrain, changes
        self.points = points
        self._require_same_settings()
        target = self._recipe((*study.target, *changes), samples)
        self.stats = f"latent_stats={json.dumps(_stats_of(target))}"

    def _require_same_settings(self) -> None:
        """Raise SystemExit where the folder holds arms of other settings, which would stand in one table with these."""
        file = self.out / "settings.json"
        now = {"samples": self.samples, "pretrain": self.pretrain, "points": self.points, "changes": list(self.changes)}
        if file.is_file() and (then := json.loads(file.read_text())) != now:
            raise SystemExit(f"error: {self.out} holds arms of {then}, not of {now}; fix: another --out")
        write_json(file, now)

    def measured(self, name: str, seed: int) -> list[Point]:
        """The arm's points, trained and measured if they are not yet."""
        folder = self.out / f"{name.replace(',', '').replace(' ', '-')}-{seed}"
        told = folder / "points.json"
        if not told.is_file():
            self._train(self.study.arms[name], seed, folder)
            found = [_measure(folder / "checkpoints" / each) for each in self._checkpoints(folder)]
            write_json(told, [[point.samples, list(point.levels), point.agreement] for point in found])
        return [Point(samples, tuple(levels), agreed) for samples, levels, agreed in json.loads(told.read_text())]

    def _checkpoints(self, folder: Path) -> list[str]:
        """Those of the interval and the last one; none that a stop saved in between, where other seeds have none."""
        training = self._recipe(self.study.target, self.samples).training
        seen = {name: samples_seen_of(name) for name in reversed(CheckpointFolder(folder / "checkpoints").names())}
        return [name for name, count in seen.items() if count and (is_due(training, count) or count >= training.samples)]

    def _train(self, arm: Arm, seed: int, folder: Path) -> None:
        start: list[str] = []
        if arm.source is not None:
            source = self.out / f"pretrained-{arm.source}-{seed}"
            recipe = self._recipe((*self.study.sources[arm.source], *self.changes, self.stats), self.pretrain, seed, keep=2)
            _finish(recipe, source)
            start = [f"init_from={{{', '.join(filter(None, [f'source: {source}', arm.options]))}}}"]
        _finish(self._recipe((*self.study.target, *self.changes, self.stats, *start), self.samples, seed), folder)

    def _recipe(self, changes: Sequence[str], samples: int, seed: int = 0, keep: int = 99) -> Recipe:
        every = samples // self.points
        training = [f"training.samples={samples}", f"training.seed={seed}", f"training.keep_checkpoints={keep}"]
        training += [f"training.checkpoint_every_samples={every}", f"training.preview_every_samples={samples}"]
        warmup = f"training.optimizer={{learning_rate: 2.0e-3, betas: [0.9, 0.95], warmup_samples: {samples // 10}}}"
        return load_recipe(self.study.recipe, [*training, warmup, "data.workers=0", *changes])


def _finish(recipe: Recipe, folder: Path) -> None:
    if (code := train(recipe, folder).code) != 0:
        raise SystemExit(code)


def _stats_of(recipe: Recipe) -> Any:
    """Latent statistics of the target's views, which all trainings share, so that their errors are in one unit."""
    machine, source = set_up_machine("auto", "auto"), open_data(recipe.data)
    facts = read_facts(recipe, source, survey(source))
    stats = live_batches(recipe, source, facts, load_encoders(recipe, source, facts, machine)).latent_stats()
    return stats.as_given().model_dump(mode="json")


def _measure(checkpoint: Path) -> Point:
    run = load_run(checkpoint)
    agreed = _agreement(run) if isinstance(run.recipe.data.source, ShapesConfig) else None
    return Point(run.samples_seen, _errors(run), agreed)


@torch.no_grad()
def _errors(run: LoadedRun) -> tuple[float, ...]:
    """Mean squared error of the velocity on held-out pictures at each of `LOG_SNRS`."""
    source, recipe, device = _held_out(run.recipe), run.recipe, run.machine.device
    ranges = [range(start, min(start + 50, HELD_OUT_PICTURES)) for start in range(0, HELD_OUT_PICTURES, 50)]
    encoder = build_encoder(recipe, run.known.facts, source, Encoders(run.generator.autoencoder, run.text_encoder, run.machine))
    told = recipe.conditioning.model_copy(update={"semantic_drop": 0.0, "control_drop": 0.0})
    schedule = run.model.schedule
    noising = Noising(0, 1, run.known.stats, told, UniformTimes(), schedule.discrete_steps, device)
    sums, count = torch.zeros(len(LOG_SNRS), dtype=torch.float64), 0
    for batch in read_batches(source, recipe.data.transform, seed=0, position_ranges=ranges, workers=0):
        drawn = noising.draw(encoder.encode(batch))
        eps = drawn.draws.normal("held-out noise", drawn.x_0.shape[1:])
        for place, log_snr in enumerate(LOG_SNRS):
            t = torch.full((len(drawn.x_0),), time_at(schedule, log_snr), device=device)
            guess = run.model.denoise(schedule.noised(drawn.x_0, eps, t), t, drawn.inputs).x_0
            sigma = 1 / (1 + math.exp(log_snr / 2))  # of the straight path at this level: (x_t - x_0) / sigma is the velocity
            sums[place] += float((guess - drawn.x_0).square().flatten(1).mean(dim=1).sum()) / sigma**2
        count += len(drawn.x_0)
    return tuple((sums / count).tolist())


def _held_out(recipe: Recipe) -> Source:
    if isinstance(recipe.data.source, ShapesConfig):
        return ShapesSource(recipe.data.source.model_copy(update={"seed": recipe.data.source.seed + 1, "length": 1000}))
    return open_data(recipe.data, "held_out")


def time_at(schedule: Schedule, log_snr: float) -> float:
    """The time at which the schedule has this log-SNR, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        above = float(schedule.log_snr(torch.tensor(middle, dtype=torch.float64))) > log_snr
        low, high = (middle, high) if above else (low, middle)
    return low


def _agreement(run: LoadedRun) -> float:
    """Share of pictures drawn for one-shape captions that agree with them in everything."""
    captions = caption_groups()["one shape"][::2][:DRAWN]
    settings = settings_from(run, steps=12, solver="dpmpp_2m")
    pixels: Tensor = sample_pixels(run, [SampleRequest(i, caption) for i, caption in enumerate(captions)], settings)
    found = [agreement(one, shapes_in(caption)) for one, caption in zip(pixels, captions, strict=True)]
    return mean_agreement(found).all


def table(results: dict[str, list[list[Point]]], pretrain: int, study: Study) -> str:
    """Mean and deviation over seeds, after half of the samples and after all."""
    levels = " | ".join(f"log-SNR {level:g}" for level in LOG_SNRS)
    lines = [f"| start | pre-training | samples | error | {levels} | agreement |", "|---" * (5 + len(LOG_SNRS)) + "|"]
    for name, seeds in results.items():
        before = pretrain if study.arms[name].source else 0
        for place in sorted({len(seeds[0]) // 2 - 1, len(seeds[0]) - 1} - {-1}):
            points = [seed[place] for seed in seeds]
            cells = [_spread([point.error for point in points])]
            cells += [_spread([point.levels[level] for point in points]) for level in range(len(LOG_SNRS))]
            agreed = [point.agreement for point in points if point.agreement is not None]
            cells.append(_spread(agreed, 100, " %") if agreed else "-")
            lines.append(f"| {name} | {before:,} | {points[0].samples:,} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _spread(values: Sequence[float], unit: float = 1, sign: str = "") -> str:
    digits = 0 if sign else 4
    mean = f"{unit * statistics.fmean(values):.{digits}f}"
    return f"{mean}{sign}" if len(values) == 1 else f"{mean} ± {unit * statistics.stdev(values):.{digits}f}{sign}"


def plot(results: dict[str, list[list[Point]]], value: Callable[[Point], float], title: str) -> Plot:
    """The mean over seeds against samples seen, shaded from the lowest to the highest seed."""
    series = []
    for name, seeds in results.items():
        columns = [[value(point) for point in points] for points in zip(*seeds, strict=True)]
        ends = [(min(column), max(column)) for column in columns]
        samples = [point.samples for point in seeds[0]]
        series.append(Series(name, samples, [statistics.fmean(column) for column in columns], band=ends))
    return Plot(title, "samples seen", title, series, width=720, height=420)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and measure what is missing, seed by seed, and write the table after every arm."""
    parser = argparse.ArgumentParser(description="From scratch against transferred, and what of the transfer matters.")
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samples", type=int, help="of every arm")
    parser.add_argument("--pretrain", type=int, help="samples of every pre-training")
    parser.add_argument("--points", type=int, default=8, help="measurements of every arm")
    parser.add_argument("--only", nargs="+", help="names of arms")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="further changes to every recipe")
    args = parser.parse_args(arguments)
    study, out = STUDIES[args.study], args.out / args.study
    pretrain = args.pretrain or study.pretrain
    runner = Runner(study, out, args.samples or study.samples, pretrain, args.points, args.set)
    results: dict[str, list[list[Point]]] = {}
    for seed in range(args.seeds):
        for name in args.only or study.arms:
            results.setdefault(name, []).append(runner.measured(name, seed))
            whole = {arm: seeds for arm, seeds in results.items() if len(seeds) == len(next(iter(results.values())))}
            write_text(out / "table.md", table(whole, pretrain, study))
            write_json(
                out / "results.json", {arm: [[vars(p) for p in points] for points in seeds] for arm, seeds in results.items()}
            )
            save_figure(out / "error.svg", plot(whole, lambda point: point.error, "held-out error of the velocity"))
            if args.study == "shapes":
                agreed = plot(whole, lambda point: point.agreement or 0.0, "agreement with the caption")
                save_figure(out / "agreement.svg", agreed)
    print((out / "table.md").read_text())


if __name__ == "__main__":
    main()
