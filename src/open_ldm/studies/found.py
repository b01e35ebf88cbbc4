"""The results of a study so far: numbers over seeds, and how they compare with the paper's claim."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from open_ldm.commands.choices import members_of
from open_ldm.commands.evaluate.config import AnyMetric
from open_ldm.evaluation.metrics.base import MetricWords
from open_ldm.pages.labels import short_number
from open_ldm.studies.results import Measured, Summary, Value, condition_of, difference, over_seeds
from open_ldm.studies.study import Expectation, Setting, Study

Verdict = Literal["supported", "contradicted", "undecided", "not measured"]

ESTIMATES: Mapping[str, MetricWords] = {
    "agreement": MetricWords(
        "agreement",
        "share of samples with the caption's colour, kind, position and number (independent reader)",
        "higher",
    ),
    "agreement_colour": MetricWords("colour", "share of samples with the caption's colour", "higher"),
    "agreement_kind": MetricWords("kind", "share of samples with the caption's kind of shape", "higher"),
    "agreement_place": MetricWords("place", "share of samples with the shape on the caption's side", "higher"),
    "attention_padding": MetricWords("attention on padding", "share of the image tokens' attention that padding gets", ""),
    "gradient_padding": MetricWords("gradient on padding", "share of the loss's gradient at the positions of padding", ""),
}
"""What a study measures itself, beside the metrics of an evaluation."""

METRICS: Mapping[str, MetricWords] = {
    **{name: words for member in members_of(AnyMetric) for name, words in member.words.items()},
    **ESTIMATES,
}
"""Words of every number that a study can hold, in the order in which they are shown."""


def words_of(metric: str) -> MetricWords:
    """Return the words of a metric, at a condition too; its name stands for an unknown one."""
    name, condition = condition_of(metric)
    words = METRICS.get(name, MetricWords(name.replace("_", " "), "", ""))
    return replace(words, title=f"{words.title}, {condition}", floor="") if condition else words


@dataclass(frozen=True)
class Finding:
    """An expectation compared with the numbers of one setting. `seeds_as_claimed`: in how many seeds the value lay on the side
    that the claim expects; `relative`: the difference over the other arm's value, where that is above 0; `floor`: the larger of
    both arms' floors, where the metric has one. A number stands for an arm that has it in every seed, without a floor."""

    expectation: Expectation
    setting: str
    difference: Summary | None
    seeds_as_claimed: int = 0
    relative: float | None = None
    floor: float | None = None

    @property
    def below_floor(self) -> bool:
        """Whether the floor is above half of the difference: what the reader misreads could then be all of it."""
        return self.floor is not None and self.difference is not None and self.floor > abs(self.difference.mean) / 2

    @property
    def verdict(self) -> Verdict:
        """Decided only where the interval of the difference leaves out 0, and the floor is at most half of the difference."""
        found = self.difference
        if found is None:
            return "not measured"
        if found.low <= 0 <= found.high or self.below_floor:
            return "undecided"
        return "supported" if (found.high < 0) == (self.expectation.expected == "lower") else "contradicted"

    def text(self) -> str:
        """One line in words. One seed of training says nothing of another, so its verdict says that it is one."""
        wanted, found = self.expectation, self.difference
        against = wanted.against if isinstance(wanted.against, str) else short_number(wanted.against)
        title = f"{words_of(wanted.metric).title}, {wanted.arm} against {against} (expected {wanted.expected})"
        if found is None:
            return f"{title}: not measured"
        seeds = f"{found.count} seed{'s' if found.count > 1 else ''}"
        said = f"{self.verdict} (one seed)" if found.count == 1 and self.verdict != "undecided" else self.verdict
        interval = f"{short_number(found.mean)} [{short_number(found.low)}, {short_number(found.high)}]"
        share = "" if self.relative is None else f" ({self.relative:+.0%})"
        if self.below_floor and self.floor is not None:
            said += f": the floor {short_number(self.floor)} is above half of the difference"
        count = f"{wanted.expected} in {self.seeds_as_claimed} of {seeds}"
        return f"{title}: {count}, difference {interval} over {found.over}{share}; {said}"


@dataclass(frozen=True)
class SettingFound:
    """What was measured in one setting.

    Attributes:
        setting: As declared.
        measured: By the setting's protocol, also earlier, where less was asked for this time.
        folders: (arm, seed) -> where its pictures lie, of all that were requested or measured.
        requested: (arm, seed) of what was asked for.
        commands: What trains them.
        accuracy: Of the classifier whose features were used, if one was fitted.
    """

    setting: Setting
    measured: tuple[Measured, ...]
    folders: Mapping[tuple[str, int], Path]
    requested: frozenset[tuple[str, int]]
    commands: tuple[str, ...]
    accuracy: float | None = None

    @property
    def arms(self) -> list[str]:
        """Arms with a result, in the order of the declaration."""
        return [name for name in self.setting.arms if any(each.arm == name for each in self.measured)]

    @property
    def metrics(self) -> list[str]:
        """Metrics that some arm has, in the order of `METRICS`, unknown ones last; those at a condition are left out."""
        return [name for name in self.names if not condition_of(name)[1]]

    @property
    def names(self) -> list[str]:
        """All that some arm has, in the order of `METRICS`, and conditions of a metric as they were measured."""
        names = list(dict.fromkeys(name for each in self.measured for name in each.values))
        order = {name: place for place, name in enumerate(METRICS)}
        return sorted(names, key=lambda name: order.get(condition_of(name)[0], len(order)))

    @property
    def conditions(self) -> dict[str, list[str]]:
        """Metrics that were measured at conditions -> these conditions."""
        found: dict[str, list[str]] = {}
        for metric, condition in map(condition_of, self.names):
            if condition:
                found.setdefault(metric, []).append(condition)
        return found

    @property
    def points(self) -> list[int]:
        """Samples seen at which arms were measured."""
        return sorted({each.samples_seen for each in self.measured})

    @property
    def planned(self) -> int:
        """Arms and seeds that were requested."""
        return len(self.requested)

    @property
    def done(self) -> int:
        """Requested arms and seeds that are measured."""
        return len({(each.arm, each.seed) for each in self.measured} & self.requested)

    def at_end(self, arm: str, metric: str) -> dict[int, Value]:
        """seed -> value after the last sample."""
        last: dict[int, Measured] = {}
        for each in self.measured:
            if each.arm == arm and each.samples_seen >= last.get(each.seed, each).samples_seen:
                last[each.seed] = each
        return {seed: each.values[metric] for seed, each in sorted(last.items()) if metric in each.values}

    def at(self, arm: str, metric: str, samples: int) -> list[Value]:
        """Values of all seeds after `samples`."""
        rows = [each for each in self.measured if each.arm == arm and each.samples_seen == samples]
        return [each.values[metric] for each in rows if metric in each.values]

    def summary(self, arm: str, metric: str) -> Summary | None:
        """Over seeds, after the last sample; None when there is no value."""
        values = self.at_end(arm, metric)
        return over_seeds(list(values.values())) if values else None

    def finding(self, expectation: Expectation) -> Finding:
        """What the numbers say to an expectation."""
        one, against = self.at_end(expectation.arm, expectation.metric), expectation.against
        if isinstance(against, str):
            other = self.at_end(against, expectation.metric)
        else:
            other = {seed: Value(against, against, against, "") for seed in one}
        sign = 1 if expectation.expected == "higher" else -1
        both = set(one) & set(other)
        count = sum(sign * (one[seed].value - other[seed].value) > 0 for seed in both)
        before = sum(other[seed].value for seed in both)
        relative = sum(one[seed].value for seed in both) / before - 1 if before > 0 else None
        floors = [
            found.mean
            for arm in sorted(expectation.arms)
            if (found := self.summary(arm, words_of(expectation.metric).floor)) is not None
        ]
        floor = max(floors, default=None)
        return Finding(expectation, self.setting.name, difference(one, other), count, relative, floor)


@dataclass(frozen=True)
class StudyFound:
    """A study at one scale, as far as it has come."""

    study: Study
    scale: str
    settings: tuple[SettingFound, ...]
    command: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether everything that was requested is measured."""
        return all(each.done >= each.planned for each in self.settings)

    @property
    def findings(self) -> list[Finding]:
        """Every expectation in every setting that has its arms, and where the metric is one of those measured."""
        return [
            setting.finding(each)
            for setting in self.settings
            for each in self.study.expectations
            if (setting.measured or setting.requested)
            and each.arms <= set(setting.setting.arms)
            and (not setting.measured or each.metric in setting.names)
        ]
