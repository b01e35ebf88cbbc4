"""What was measured of the arms of a study, and what the seeds together say."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from open_ldm.core.errors import ConfigError
from open_ldm.core.files import write_json
from open_ldm.core.plain_data import parse_json
from open_ldm.evaluation.bootstrap import difference_of

# Two-sided 95 % points of Student's t by degrees of freedom; beyond the table by its expansion about the normal's.
_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
_NORMAL95 = 1.959964
_EXACT = 1e-12
_AT = "@"


def at(metric: str, condition: str) -> str:
    """Name a metric at a condition, such as a noise level or a group of captions; it keeps its name without one."""
    return f"{metric}{_AT}{condition}" if condition else metric


def condition_of(name: str) -> tuple[str, str]:
    """The inverse of `at`: the metric, and its condition or an empty string."""
    metric, _, condition = name.partition(_AT)
    return metric, condition


@dataclass(frozen=True)
class Value:
    """A number with the interval that its own pictures give it, and the id of its protocol."""

    value: float
    low: float
    high: float
    protocol: str


@dataclass(frozen=True)
class Measured:
    """One arm and seed after `samples_seen`. `values`: metric -> number; `refused`: metric -> why there is none; `tokens`:
    attention and gradient by position, where the study measures them; `protocol`: hash of how it was measured."""

    arm: str
    seed: int
    samples_seen: int
    values: Mapping[str, Value]
    refused: Mapping[str, str] = field(default_factory=dict)
    tokens: Mapping[str, Any] = field(default_factory=dict)
    protocol: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data; `from_json` reads it back."""
        return {
            "arm": self.arm,
            "seed": self.seed,
            "samples_seen": self.samples_seen,
            "values": {name: vars(value) for name, value in self.values.items()},
            "refused": dict(self.refused),
            "tokens": dict(self.tokens),
            "protocol": self.protocol,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Measured:
        """The inverse of `to_json`."""
        values = {name: Value(**value) for name, value in content["values"].items()}
        return cls(**{**content, "values": values})


def read_measured(path: Path) -> list[Measured]:
    """Read the results in a file, in the order of training; none without a file. Raises ConfigError when it is damaged."""
    if not path.is_file():
        return []
    try:
        return [Measured.from_json(each) for each in parse_json(path.read_text(encoding="utf-8"), finite=False)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"{path} cannot be read ({type(error).__name__})", fix="delete it and start the study again"
        ) from error


def write_measured(path: Path, found: Sequence[Measured]) -> None:
    """Write results that `read_measured` reads back."""
    write_json(path, [each.to_json() for each in found])


@dataclass(frozen=True)
class Summary:
    """A number over `count` seeds: mean, standard deviation between seeds (None for one seed), and an interval: of 95 % for the
    mean over seeds by Student's t, or that of the bootstrap over `pictures`, for one seed and for seeds that agree exactly."""

    mean: float
    spread: float | None
    low: float
    high: float
    count: int
    pictures: bool = False

    @property
    def over(self) -> str:
        """What the interval is over."""
        return "pictures" if self.pictures or self.count == 1 else "seeds"


def over_seeds(values: Sequence[Value]) -> Summary:
    """Summarise one metric of one arm. Raises ValueError when there are none."""
    if len(values) == 1:
        return Summary(values[0].value, None, values[0].low, values[0].high, 1)
    return _of_numbers([(each.value, each.low, each.high) for each in values])


def difference(arm: Mapping[int, Value], against: Mapping[int, Value]) -> Summary | None:
    """Return `arm` - `against` over the seeds that both have, paired; None when there is none.

    For one seed the interval is that of two independent sets of pictures, which is too wide rather than too narrow: both were
    sampled from the same noise. It says nothing about another seed of training.
    """
    seeds = sorted(set(arm) & set(against))
    if not seeds:
        return None
    if len(seeds) > 1:
        return _of_numbers([difference_of(arm[seed], against[seed]) for seed in seeds])
    value, low, high = difference_of(arm[seeds[0]], against[seeds[0]])
    return Summary(value, None, low, high, 1)


def _of_numbers(found: Sequence[tuple[float, float, float]]) -> Summary:
    """Summarise values with the lower and upper end of their intervals over pictures.

    Seeds that agree exactly, such as shares of a hundred pictures, have no spread, which is no certainty: their mean then has
    the interval of the pictures of all of them.
    """
    numbers, count = [value for value, *_ in found], len(found)
    mean, spread = statistics.fmean(numbers), statistics.stdev(numbers)
    if spread > _EXACT:
        reach = t95(count - 1) * spread / math.sqrt(count)
        return Summary(mean, spread, mean - reach, mean + reach, count)
    below, above = (math.hypot(*(value - end for value, end in ends)) / count for ends in _ends(found))
    return Summary(mean, spread, mean - below, mean + above, count, pictures=below + above > 0)


def _ends(found: Sequence[tuple[float, float, float]]) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    return [(value, low) for value, low, _ in found], [(value, high) for value, _, high in found]


def t95(freedom: int) -> float:
    """The 97.5 % point of Student's t (Abramowitz & Stegun 1964, 26.7.5)."""
    if freedom <= len(_T95):
        return _T95[freedom - 1]
    z = _NORMAL95
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
