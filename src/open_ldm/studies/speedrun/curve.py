"""The curve of a training: what was measured at each of its checkpoints, and after how many seconds of training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from open_ldm.core.events import Event
from open_ldm.core.files import write_json
from open_ldm.core.plain_data import parse_json
from open_ldm.studies.results import Value

_NOT_TRAINING = ("checkpoint", "preview", "held_out", "evaluated")
"""Events that say how many seconds they took, in which nothing was learned."""


def seconds_of_training(events: Iterable[Event]) -> dict[int, float]:
    """Return the seconds of training at each checkpoint, by samples seen.

    They count from the first screen of the run (its data open, its model built). Saving, previews and measuring on the way are
    not counted, nor is the time between a stop and the command that went on, nor work that was lost with a process.

    Args:
        events: All of a run's event log, in the order written.
    """
    found: dict[int, float] = {}
    before, began, other = 0.0, None, 0.0
    for event in events:
        if event.name in ("start", "resume"):
            found = {seen: seconds for seen, seconds in found.items() if event.name == "resume" and seen <= event.samples_seen}
            before, began, other = found.get(event.samples_seen, 0.0), _clock(event), 0.0
        elif event.name in _NOT_TRAINING and began is not None:
            seconds = event.number("seconds") or 0.0
            if event.name == "checkpoint":
                found[event.samples_seen] = before + _clock(event) - seconds - began - other
            waited = event.number("waited_seconds")  # of a save beside training, on an accelerator
            other += seconds if waited is None else waited
    return found


def _clock(event: Event) -> float:
    return datetime.fromisoformat(event.time).timestamp()


@dataclass(frozen=True)
class Point:
    """What was measured at one checkpoint: values by metric."""

    samples_seen: int
    seconds: float
    values: Mapping[str, Value]


@dataclass(frozen=True)
class Curve:
    """The points of one training in their order.

    Attributes:
        seed: Of the training.
        busy: Cores that other programs used when it began.
        points: Measured so far.
        whole_seconds: Of the whole training.
    """

    seed: int
    busy: float
    points: tuple[Point, ...]
    whole_seconds: float

    def crossing(self, metric: str, level: float) -> Point | None:
        """Return the first point at which a metric (lower is better) has come down to a level; None where none has."""
        return next((each for each in self.points if metric in each.values and each.values[metric].value <= level), None)


@dataclass(frozen=True)
class Time:
    """Seconds to a level over the seeds of a recipe.

    Attributes:
        seconds: Of each seed; of one that does not reach the level, those of its whole training, which are too few.
        reached: How many seeds reached it.
        at: Value and interval of the metric where the seed of the median crossed the level; None where it did not.
    """

    seconds: tuple[float, ...]
    reached: int
    at: Value | None

    @property
    def median(self) -> float:
        """Of the seeds."""
        return median(self.seconds)

    @property
    def sure(self) -> bool:
        """Whether so many seeds reached the level that the median is one of theirs."""
        return self.reached > len(self.seconds) // 2

    def text(self) -> str:
        """Write '312 s (298 to 340)', and '>' before a median of seeds that did not reach the level."""
        more = "" if self.sure else "> "
        return f"{more}{self.median:,.0f} s ({min(self.seconds):,.0f} to {max(self.seconds):,.0f})"

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        at = None if self.at is None else {"value": self.at.value, "low": self.at.low, "high": self.at.high}
        return {"median": self.median, "seconds": list(self.seconds), "reached": self.reached, "at": at}


def time_to(curves: Sequence[Curve], metric: str, level: float) -> Time:
    """Return the seconds that trainings of one recipe took to a level of one metric."""
    crossings = [curve.crossing(metric, level) for curve in curves]
    seconds = [curve.whole_seconds if point is None else point.seconds for curve, point in zip(curves, crossings, strict=True)]
    middle = sorted(range(len(seconds)), key=seconds.__getitem__)[len(seconds) // 2]
    at = crossings[middle]
    return Time(tuple(seconds), sum(point is not None for point in crossings), None if at is None else at.values[metric])


def write_points(path: Path, protocol: str, points: Sequence[Point]) -> None:
    """Keep points, with the hash of how they were measured."""
    content = [
        {
            "samples_seen": each.samples_seen,
            "seconds": each.seconds,
            "values": {name: [one.value, one.low, one.high, one.protocol] for name, one in each.values.items()},
        }
        for each in points
    ]
    write_json(path, {"protocol": protocol, "points": content})


def read_points(path: Path, protocol: str) -> list[Point]:
    """Read points that were measured in this way; none without a file, or of another way."""
    if not path.is_file():
        return []
    content: Any = parse_json(path.read_text(encoding="utf-8"))
    if content.get("protocol") != protocol:
        return []
    return [
        Point(each["samples_seen"], each["seconds"], {name: Value(*one) for name, one in each["values"].items()})
        for each in content["points"]
    ]
