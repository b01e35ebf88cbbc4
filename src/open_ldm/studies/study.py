"""What a study is: a question, the paper's claim, arms that differ in one thing, and scales to run them at."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from open_ldm.core.errors import ConfigError, nearest
from open_ldm.evaluation.features.classifier_fit import FitConfig
from open_ldm.pages.charts import Plot

ScaleName = Literal["tiny", "small", "paper"]
SCALES: tuple[ScaleName, ...] = ("tiny", "small", "paper")


def slug(name: str) -> str:
    """A name as a folder."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")


@dataclass(frozen=True)
class Start:
    """An arm that starts from the pre-training `source` of its setting; `options`: settings of init_from."""

    source: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Arm:
    """One thing to compare: changes to the setting's recipe (`key=value`), or another recipe.

    `start`: None starts from random numbers. `run`: the name of the arm whose training this one shares, for arms that differ
    only in `sampling` (changes to the sampling settings) or in the `controls` given at sampling.
    """

    changes: tuple[str, ...] = ()
    recipe: str | None = None
    start: Start | None = None
    run: str | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    controls: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Sweep:
    """Pictures of the same seeds and prompts under several values of one control."""

    control: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Protocol:
    """How every arm of a setting is measured.

    `metrics`: as `ldm evaluate` takes them; `pictures` are sampled under `sampling` for those that need some. `features`: what
    sees the pictures: a classifier that the study fits on the setting's own data, or the settings of an extractor, or nothing;
    `also`: more of them, for metrics that the first cannot give.
    `agreement`: number of captions of shapes that are sampled and read back (0: none). `tokens`: number of pictures on which
    attention to tokens is measured (0: none). `by_length`: name of a group of captions -> their numbers of words; `agreement`
    captions of each group are then sampled in the place of the usual sentence. `noise_levels`: the held-out loss is also told
    at each noise level. `shown`: pictures in the grids; `sweeps`: grids over a control. `points`: how
    often an arm is measured during its training; 1 measures it only at its end. `reference`: the real pictures that samples
    are compared with: None is the training data, "held_out" what the arms hold out, anything else data as for
    `ldm evaluate --against`.
    """

    metrics: tuple[str | Mapping[str, Any], ...] = ("fid", "kid", "control_influence", "held_out_loss")
    pictures: int = 256
    against: int = 2000
    sampling: Mapping[str, Any] = field(default_factory=dict)
    features: FitConfig | Mapping[str, Any] | None = field(default_factory=FitConfig)
    also: tuple[Mapping[str, Any], ...] = ()
    agreement: int = 0
    tokens: int = 0
    shown: int = 8
    sweeps: tuple[Sweep, ...] = ()
    points: int = 1
    reference: str | None = None
    by_length: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    noise_levels: bool = False


@dataclass(frozen=True)
class Source:
    """A pre-training that arms start from, one for each seed: changes to `recipe`."""

    recipe: str
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Setting:
    """One data set of a scale: the recipe that all arms change, how many seeds, and how they are measured."""

    name: str
    recipe: str
    arms: Mapping[str, Arm]
    protocol: Protocol
    changes: tuple[str, ...] = ()
    seeds: int = 1
    sources: Mapping[str, Source] = field(default_factory=dict)

    def run_of(self, arm: str) -> str:
        """The arm whose training an arm shares; usually its own."""
        return self.arms[arm].run or arm


@dataclass(frozen=True)
class Expectation:
    """What the paper's claim says of two arms: `metric` of `arm` is `expected` than that of `against`, or than a number."""

    arm: str
    against: str | float
    metric: str
    expected: Literal["lower", "higher"] = "lower"

    @property
    def arms(self) -> set[str]:
        """The arms that it compares: two, or one that is compared with a number."""
        return {each for each in (self.arm, self.against) if isinstance(each, str)}


@dataclass(frozen=True)
class ArmCurve:
    """Arms that differ in one number, drawn as a curve over it. `arms`: number -> name of the arm."""

    name: str
    arms: Mapping[float, str]


@dataclass(frozen=True)
class Figure:
    """A plot that needs no training."""

    caption: str
    plot: Plot


@dataclass(frozen=True)
class Study:
    """One table or figure of arXiv 2411.03177. `claim`: in our words. `shows`: which table or figure it is the twin of.

    `figures` need no training; a study of figures alone has no scales. `grid`: what the two parts of the arms' names are, where
    arms are pairs ('0.9, 0.95') and a map shows more than a list. `curves`: arms that are drawn, for each metric, over the
    number `curves_over` in which they differ.
    """

    name: str
    title: str
    shows: str
    question: str
    claim: str
    expectations: tuple[Expectation, ...] = ()
    scales: Mapping[ScaleName, Sequence[Setting]] = field(default_factory=dict)
    figures: Callable[[], Sequence[Figure]] | None = None
    notes: str = ""
    grid: tuple[str, str] | None = None
    curves: tuple[ArmCurve, ...] = ()
    curves_over: str = ""

    def settings(self, scale: str) -> Sequence[Setting]:
        """Return the settings of a scale. Raises ConfigError for a scale the study does not have."""
        if not self.scales:
            return ()
        for name, settings in self.scales.items():
            if name == scale:
                return settings
        raise ConfigError(f"study {self.name} has no scale {scale!r}", needed=nearest(scale, self.scales))
