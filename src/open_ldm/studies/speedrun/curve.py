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

_NOT_TRAINING = ("checkpoint", "preview", "held_out", "evaluated", "paused")
"""Events that say how many seconds they took, in which nothing was learned."""


def seconds_of_training(events: Iterable[Event]) -> dict[int, float]:
    """Return the seconds of training at each checkpoint, by samples seen.

    They count from the first screen of the run (its data open, its model built). Saving, previews, snapshots of averages, new
    reports and measuring on the way are not counted, nor is the time between a stop and the command that went on, nor work that
    was lost with a process.

    A save that went on beside training counts from the moment it began, and only for as long as training waited for it: while
    its copy was taken, and for its end, where the next save came before that. Where
    a process was lost between a checkpoint and its event, its seconds follow from the pace until shortly before.

    Args:
        events: All of a run's event log, in the order written.
    """
    found: dict[int, float] = {}
    paces: dict[int, float] = {}
    before, began, pauses = 0.0, None, list[tuple[float, float]]()
    for event in events:
        seen, clock = event.samples_seen, _clock(event)
        if event.name in ("start", "resume"):
            goes_on = event.name == "resume"
            found, paces = ({at: each for at, each in of.items() if goes_on and at <= seen} for of in (found, paces))
            if goes_on and seen not in found:
                found[seen] = _at_pace(seen, {**paces, **found})
            before, began, pauses = found.get(seen, 0.0), clock, []
        elif began is not None and event.name in (*_NOT_TRAINING, "train"):
            length = 0.0 if event.name == "train" else event.number("seconds") or 0.0
            moment = clock - length
            seconds = before + moment - began - sum(waited for since, waited in pauses if since < moment)
            if event.name in ("checkpoint", "train"):
                (found if event.name == "checkpoint" else paces)[seen] = seconds
            waited = event.number("waited_seconds")
            pauses.append((moment, length if waited is None else waited))
    return found


def _at_pace(seen: int, known: Mapping[int, float]) -> float:
    """The seconds at a position by the pace until the last one before it whose seconds are known; 0 where none are."""
    last = max((at for at in known if 0 < at <= seen), default=0)
    return known[last] * seen / last if last else 0.0


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
        crossed: Of each seed: whether it reached the level.
        at: Value and interval of the metric where the seed of the median crossed the level; None where it did not.
    """

    seconds: tuple[float, ...]
    crossed: tuple[bool, ...]
    at: Value | None

    @property
    def reached(self) -> int:
        """How many seeds reached the level."""
        return sum(self.crossed)

    @property
    def median(self) -> float:
        """Of the seeds; one that does not reach the level is later than all that do, however short its training was."""
        ordered, half = in_order(self.seconds, self.crossed), len(self.seconds) // 2
        return median(self.seconds[each] for each in ordered[(len(ordered) - 1) // 2 : half + 1])

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


def in_order(seconds: Sequence[float], crossed: Sequence[bool]) -> list[int]:
    """Return the numbers of seeds, the soonest first, and last those that do not reach the level."""
    return sorted(range(len(seconds)), key=lambda each: (not crossed[each], seconds[each]))


def time_to(curves: Sequence[Curve], metric: str, level: float) -> Time:
    """Return the seconds that trainings of one recipe took to a level of one metric."""
    crossings = [curve.crossing(metric, level) for curve in curves]
    seconds = [curve.whole_seconds if point is None else point.seconds for curve, point in zip(curves, crossings, strict=True)]
    crossed = [point is not None for point in crossings]
    at = crossings[in_order(seconds, crossed)[len(seconds) // 2]]
    return Time(tuple(seconds), tuple(crossed), None if at is None else at.values[metric])


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
