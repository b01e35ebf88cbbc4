"""The loss of a packaged recipe as it was when it was run: a small JSON beside the recipe, with the band of its seeds.

It answers "is my loss normal?": `report.html` and the studio draw it under a run of the same recipe.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from open_ldm.core.errors import DataError
from open_ldm.core.hashes import hash_content
from open_ldm.core.plain_data import parse_json
from open_ldm.pages.charts import Series
from open_ldm.pages.curves import smoothed
from open_ldm.run_folder.history import HELD_OUT, RunHistory, lookup

FOLDER = "recipes/reference"
MOST_BYTES = 20_000
_POINTS = 60
_DECIDES = (
    "data.transform",
    "autoencoder",
    "conditioning",
    "process",
    "objective",
    "denoiser",
    "training.samples",
    "training.batch_size",
    "training.optimizer",
)


@dataclass(frozen=True)
class Band:
    """Lowest, mean and highest value over the seeds at each place."""

    at: tuple[float, ...]
    low: tuple[float, ...]
    mean: tuple[float, ...]
    high: tuple[float, ...]

    def series(self, name: str) -> Series:
        """As a curve with its band."""
        return Series(name, self.at, self.mean, band=tuple(zip(self.low, self.high, strict=True)))


@dataclass(frozen=True)
class ReferenceCurve:
    """What a recipe's runs had.

    Attributes:
        recipe: Its name.
        seeds: The seeds that were run.
        machine: Where, in words.
        commit: Of this program.
        date: When.
        settings: Hash of the settings that decide the loss (`settings_of`); a run with others has another loss.
        loss: Training loss over samples seen.
        levels: Held-out loss by noise level at the end; None where nothing is held out.
    """

    recipe: str
    seeds: tuple[int, ...]
    machine: str
    commit: str
    date: str
    settings: str
    loss: Band
    levels: Band | None = None

    @property
    def sentence(self) -> str:
        """Where it is from, for people."""
        count = f"{len(self.seeds)} seeds" if len(self.seeds) > 1 else "one seed"
        return f"{self.recipe} as it was run with {count} on {self.machine}, {self.date}, commit {self.commit}"

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        content: dict[str, Any] = {"recipe": self.recipe, "seeds": list(self.seeds), "machine": self.machine}
        content |= {"commit": self.commit, "date": self.date, "settings": self.settings, "loss": _plain(self.loss)}
        return content if self.levels is None else {**content, "levels": _plain(self.levels)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ReferenceCurve:
        """Read what `to_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        named = {name: str(content[name]) for name in ("recipe", "machine", "commit", "date", "settings")}
        levels = content.get("levels")
        return cls(
            **named,
            seeds=tuple(int(seed) for seed in content["seeds"]),
            loss=_band(content["loss"]),
            levels=None if levels is None else _band(levels),
        )


def reference_under(history: RunHistory) -> ReferenceCurve | None:
    """Return the reference to draw under a run: one of its recipe that was run with the same settings that decide the loss."""
    known = references_of(str(history.config.get("name") or ""))
    settings = settings_of(history.config) if known else ""
    return next((one for one in known if one.settings == settings), None)


def settings_of(config: Mapping[str, Any]) -> str:
    """Hash what decides the loss of a run: data, views, conditioning, noise, objective, network, batch and optimizer.

    The folder of the data, seeds, and how often something is written are left out.
    """
    source = lookup(config, "data.source")
    kept: dict[str, Any] = {name: lookup(config, name) for name in _DECIDES}
    told = source.items() if isinstance(source, Mapping) else ()
    kept["data.source"] = {key: value for key, value in told if key != "path"}
    return hash_content(kept)[:16]


def references_of(recipe: str) -> list[ReferenceCurve]:
    """Return the references of a packaged recipe, as it is and as `ldm demo --quick` changes it; none where it was not run."""
    return [one for one in all_references() if one.recipe == recipe]


@cache
def all_references() -> tuple[ReferenceCurve, ...]:
    """Read the references that come with the package."""
    folder = resources.files("open_ldm") / FOLDER
    files = sorted(file.name for file in folder.iterdir() if file.name.endswith(".json")) if folder.is_dir() else []
    return tuple(ReferenceCurve.from_json(parse_json((folder / name).read_text(encoding="utf-8"))) for name in files)


def measured_curve(
    histories: Sequence[RunHistory], recipe: str, seeds: Sequence[int], commit: str, date: str
) -> ReferenceCurve:
    """Build the reference from finished runs of a recipe that differ in their seed alone.

    Raises:
        DataError: There is no run, one has no loss, or they differ in more than their seeds.
    """
    curves = [_smooth_loss(history) for history in histories]
    if not curves or any(len(x) < 2 for x, _ in curves):
        raise DataError(f"a run of {recipe} has no curve of its loss", needed="finished runs")
    begin, end = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    at = [begin + (end - begin) * step / (_POINTS - 1) for step in range(_POINTS)]
    values = [[_between(x, y, place) for place in at] for x, y in curves]
    start = histories[0].last("start")
    machine = start.text("device") if start is not None else ""
    levels = [_levels(history) for history in histories]
    known = [one for one in levels if one is not None]
    same = len(known) == len(histories) and len({tuple(times) for times, _ in known}) == 1
    band = _band_of(known[0][0], [found for _, found in known]) if same else None
    settings = {settings_of(history.config) for history in histories}
    if len(settings) > 1:
        raise DataError(f"the runs of {recipe} differ in more than their seeds", needed="runs of the same settings")
    return ReferenceCurve(recipe, tuple(seeds), machine, commit, date, settings.pop(), _band_of(at, values), band)


def levels_of(history: RunHistory, name: str) -> Series | None:
    """Return the newest held-out loss of a run by noise level; None where it has none."""
    found = _levels(history)
    return None if found is None else Series(name, *found)


def _levels(history: RunHistory) -> tuple[list[float], list[float]] | None:
    event = history.last(HELD_OUT)
    times = event.fields.get("times") if event else None
    values = event.fields.get("levels") if event else None
    return (times, values) if isinstance(times, list) and isinstance(values, list) and len(times) == len(values) else None


def _smooth_loss(history: RunHistory) -> tuple[list[float], list[float]]:
    events = [(event.samples_seen, event.number("loss")) for event in history.named("train")]
    kept = [(float(seen), loss) for seen, loss in events if loss is not None and math.isfinite(loss)]
    return [seen for seen, _ in kept], smoothed([loss for _, loss in kept])


def _between(x: Sequence[float], y: Sequence[float], place: float) -> float:
    for (x_0, y_0), (x_1, y_1) in zip(zip(x, y, strict=True), zip(x[1:], y[1:], strict=True), strict=False):
        if place <= x_1:
            return y_0 + (y_1 - y_0) * (place - x_0) / (x_1 - x_0)
    return y[-1]


def _band_of(at: Sequence[float], curves: Sequence[Sequence[float]]) -> Band:
    columns = list(zip(*curves, strict=True))
    low, high = ([_short(choose(column)) for column in columns] for choose in (min, max))
    mean = [_short(sum(column) / len(column)) for column in columns]
    return Band(tuple(_short(place) for place in at), tuple(low), tuple(mean), tuple(high))


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def _plain(band: Band) -> dict[str, list[float]]:
    return {"at": list(band.at), "low": list(band.low), "mean": list(band.mean), "high": list(band.high)}


def _band(content: Mapping[str, Any]) -> Band:
    parts = [tuple(float(value) for value in content[name]) for name in ("at", "low", "mean", "high")]
    if len({len(part) for part in parts}) != 1:
        raise ValueError("a band has parts of different lengths")
    return Band(*parts)
