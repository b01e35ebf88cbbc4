"""What a speedrun found: when each recipe crosses the level, and how they compare."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from open_ldm.core.plain_data import parse_json, to_json
from open_ldm.studies.speedrun.curve import Time
from open_ldm.studies.speedrun.level import Level
from open_ldm.studies.speedrun.settings import METRICS


@dataclass(frozen=True)
class Found:
    """What a speedrun found.

    Attributes:
        level: Frozen.
        times: By the name of a side, by metric.
        busy: By the name of a side: the most cores that other programs used when one of its trainings began.
        machine: The processor, in words; all of them where trainings began on several.
        seeds: Of the trainings.
        commit: Of the program; empty outside of a repository.
        command: That gave this.
        date: ISO 8601, UTC.
    """

    level: Level
    times: Mapping[str, Mapping[str, Time]]
    busy: Mapping[str, float]
    machine: str
    commit: str
    command: tuple[str, ...]
    date: str
    seeds: tuple[int, ...]

    def ratio(self, metric: str, name: str) -> float | None:
        """Return how many times sooner a side reaches the level than the first one; None where it does not reach it.

        Where the median of the first one is a bound, so is this: at least so many times.
        """
        base, other = self.times["base"][metric], self.times[name][metric]
        return base.median / max(other.median, 1e-9) if other.sure else None

    def text(self) -> str:
        """Return it for people: a line for each recipe and metric."""
        lines = []
        for name, times in self.times.items():
            for metric in METRICS:
                said = "" if name == "base" else self._compared(metric, name)
                lines.append(f"{name}: {metric} {self.level.values[metric]:.4g} after {times[metric].text()}{said}")
        return "\n".join(lines)

    def _compared(self, metric: str, name: str) -> str:
        ratio = self.ratio(metric, name)
        if ratio is None:
            return ", a level that most of its seeds do not reach"
        return f", {'' if self.times['base'][metric].sure else 'at least '}{ratio:.2f} times sooner than base"

    def to_json(self, earlier: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return it as plain data.

        Args:
            earlier: Of other commands in the same folder, whose recipes stay where they were measured against the same level.
        """
        level = parse_json(to_json(asdict(self.level)))
        before = earlier.get("recipes", {}) if earlier and earlier.get("level") == level else {}
        return {"level": level, "recipes": {**before, **{name: self._of(name) for name in self.times}}}

    def _of(self, name: str) -> dict[str, Any]:
        """What was found of one recipe, and where."""
        ratios = {} if name == "base" else {metric: self.ratio(metric, name) for metric in METRICS}
        return {
            "times": {metric: each.to_json() for metric, each in self.times[name].items()},
            "ratios": {metric: None if ratio is None else round(ratio, 3) for metric, ratio in ratios.items()},
            "busy_cores": self.busy.get(name),
            "machine": self.machine,
            "commit": self.commit,
            "command": shlex.join(self.command),
            "date": self.date,
            "seeds": list(self.seeds),
        }
