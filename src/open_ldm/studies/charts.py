"""The charts of a study: what its page shows, and what `ldm study --format` writes into files."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from open_ldm.pages.charts import Cell, Chart, Forest, Format, HeatMap, Plot, Row, Series
from open_ldm.pages.figures import save_figure
from open_ldm.studies.found import SettingFound, StudyFound, words_of
from open_ldm.studies.results import at, over_seeds
from open_ldm.studies.study import Study


@dataclass(frozen=True)
class StudyChart:
    """A chart, and the name that tells it from the others of its study."""

    name: str
    chart: Chart
    caption: str = ""


def declared_charts(found: StudyFound) -> list[StudyChart]:
    """What the study shows without training."""
    declared = found.study.figures() if found.study.figures else ()
    return [StudyChart(each.plot.title, each.plot, each.caption) for each in declared]


def metric_charts(found: SettingFound) -> list[StudyChart]:
    """Every metric: over training where arms were measured on the way, otherwise arm beside arm at the end."""
    charts: list[StudyChart] = []
    for metric in found.metrics:
        words = words_of(metric)
        title = words.title + (f" ({words.better} is better)" if words.better else "")
        on_the_way = len(found.points) > 1 and found.setting.protocol.points > 1
        chart = _over_training(found, metric, title) if on_the_way else _at_the_end(found, metric, title)
        charts.append(StudyChart(f"{found.setting.name} {metric}", chart))
    return charts


def condition_charts(found: SettingFound) -> list[StudyChart]:
    """Every metric that was measured at conditions: a curve an arm over noise levels, else arm beside arm at each condition."""
    charts: list[StudyChart] = []
    for metric, conditions in found.conditions.items():
        title = words_of(metric).title
        levels = [each.removeprefix("t=") for each in conditions if each.startswith("t=")]
        chart = _over_noise(found, metric, title, levels) if levels else _at_conditions(found, metric, title, conditions)
        charts.append(StudyChart(f"{found.setting.name} {metric} by condition", chart))
    return charts


def map_charts(found: SettingFound, axes: tuple[str, str] | None) -> list[StudyChart]:
    """Of a study whose arms are pairs of settings: a map for each metric."""
    if axes is None or not found.measured:
        return []
    charts: list[StudyChart] = []
    for metric in found.metrics:
        cells: list[Cell] = []
        for arm in found.arms:
            row, _, column = arm.partition(", ")
            if (summary := found.summary(arm, metric)) is not None:
                cells.append(Cell(row, column, summary.mean))
        charts.append(StudyChart(f"{found.setting.name} map {metric}", HeatMap(words_of(metric).title, axes, cells)))
    return charts


def curve_charts(found: SettingFound, study: Study) -> list[StudyChart]:
    """Of a study whose arms differ in a number: a plot over it for each metric, with the interval of every mean."""
    charts: list[StudyChart] = []
    for metric in found.metrics if study.curves else ():
        series: list[Series] = []
        for curve in study.curves:
            measured = {x: found.summary(arm, metric) for x, arm in sorted(curve.arms.items())}
            there = [(x, summary) for x, summary in measured.items() if summary is not None]
            if len(there) > 1:
                band = [(summary.low, summary.high) for _, summary in there]
                series.append(Series(curve.name, [x for x, _ in there], [summary.mean for _, summary in there], band=band))
        if series:
            plot = Plot(words_of(metric).title, study.curves_over, words_of(metric).title, series, from_zero=True)
            charts.append(StudyChart(f"{found.setting.name} curves {metric}", plot))
    return charts


def token_charts(found: SettingFound) -> list[StudyChart]:
    """Attention and gradient by position in the caption, of the first seed: words and padding apart, an arm a curve."""
    measured = [each for each in found.measured if each.tokens and each.seed == 0]
    if not measured:
        return []
    charts: list[StudyChart] = []
    for name, title in (("attention", "share of attention"), ("gradient", "share of gradient norm")):
        for side, where in (("token", "words"), ("padding", "padding")):
            series: list[Series] = []
            for each in measured:
                shares: Sequence[float | None] = each.tokens[name][side]
                last = max((at for at, value in enumerate(shares, start=1) if value is not None), default=0)
                y = [math.nan if value is None else value for value in shares[:last]]
                series.append(Series(each.arm, list(range(1, len(y) + 1)), y))
            plot = Plot(f"{title}, {where}", "position in the caption", title, series, from_zero=True)
            charts.append(StudyChart(f"{found.setting.name} {name} of {where}", plot))
    return charts


def save_charts(found: StudyFound, out: Path, kind: Format) -> list[Path]:
    """Write every chart of the study into `out`, as figure-NAME.svg, .pdf or .png.

    Raises:
        DiskError: when the disk refuses.
    """
    charts = declared_charts(found)
    for setting in found.settings:
        charts += [*curve_charts(setting, found.study), *metric_charts(setting), *condition_charts(setting)]
        charts += [*map_charts(setting, found.study.grid), *token_charts(setting)]
    files: list[Path] = []
    for each in charts:
        files.append(out / f"figure-{re.sub('[^A-Za-z0-9]+', '-', each.name).strip('-')}.{kind}")
        save_figure(files[-1], each.chart)
    return files


def _over_noise(found: SettingFound, metric: str, title: str, levels: Sequence[str]) -> Plot:
    series: list[Series] = []
    for arm in found.arms:
        measured = [(float(level), found.summary(arm, at(metric, f"t={level}"))) for level in levels]
        there = [(level, one) for level, one in measured if one is not None]
        x, y = [level for level, _ in there], [one.mean for _, one in there]
        series.append(Series(arm, x, y, band=[(one.low, one.high) for _, one in there]))
    return Plot(f"{title} by noise level", "noise level t", title, series)


def _at_conditions(found: SettingFound, metric: str, title: str, conditions: Sequence[str]) -> Forest:
    rows: list[Row] = []
    for condition in conditions:
        for arm in found.arms:
            name = at(metric, condition)
            if (summary := found.summary(arm, name)) is not None:
                seeds = [value.value for value in found.at_end(arm, name).values()]
                rows.append(Row(f"{condition}: {arm}", summary.mean, summary.low, summary.high, seeds))
    return Forest(title, rows)


def _at_the_end(found: SettingFound, metric: str, title: str) -> Forest:
    rows: list[Row] = []
    for arm in found.arms:
        if (summary := found.summary(arm, metric)) is not None:
            seeds = [value.value for value in found.at_end(arm, metric).values()]
            rows.append(Row(arm, summary.mean, summary.low, summary.high, seeds))
    return Forest(title, rows)


def _over_training(found: SettingFound, metric: str, title: str) -> Plot:
    series: list[Series] = []
    for arm in found.arms:
        points = [(samples, found.at(arm, metric, samples)) for samples in found.points]
        there = [(samples, over_seeds(values)) for samples, values in points if values]
        if there:
            x, y = [samples for samples, _ in there], [one.mean for _, one in there]
            series.append(Series(arm, x, y, band=[(one.low, one.high) for _, one in there]))
    return Plot(title, "samples seen", title, series)
