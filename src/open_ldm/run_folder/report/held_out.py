"""The part of a run's report about pictures it was not trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence

from open_ldm.core.events import Event
from open_ldm.pages.charts import Plot, Series
from open_ldm.pages.content import Part, figure
from open_ldm.run_folder.history import HELD_OUT, RunHistory
from open_ldm.run_folder.reference_curve import levels_of, reference_under
from open_ldm.run_folder.report.training import number_of

_LEVELS = 5


def held_out_part(history: RunHistory) -> Part | None:
    """Loss over samples seen, mean and by noise level; None where the run measured none."""
    events = history.named(HELD_OUT)
    if not events:
        return None
    mean = Plot("Held-out loss", "samples seen", "loss", [mean_with_interval(events, "mean")], width=520, height=300)
    levels = Plot("Held-out loss by noise level", "samples seen", "loss", _levels(events), width=520, height=300)
    count = events[-1].number("pictures") or 0
    groups = f", held out {events[-1].text('groups')}" if events[-1].fields.get("groups") else ""
    figures = [
        figure(mean, f"Mean over all noise levels, with its 95 % interval over {count:,.0f} pictures{groups}."),
        figure(levels, "At some noise levels (t = 0: data, 1: noise)."),
    ]
    reference, newest = reference_under(history), levels_of(history, "this run")
    if reference is not None and reference.levels is not None and newest is not None:
        beside = [newest, reference.levels.series("reference")]
        plot = Plot("At the end, beside the reference", "t (0 = data, 1 = noise)", "loss", beside, width=520, height=300)
        figures.append(figure(plot, f"Reference, with the band of its seeds: {reference.sentence}."))
    return Part("Held-out pictures", "run/held_out.html", figures)


def mean_with_interval(events: Sequence[Event], name: str, before: int = 0) -> Series:
    """The mean over all noise levels with its interval as a band, over `before` + samples seen."""
    band = [(number_of(event, "low"), number_of(event, "high")) for event in events]
    means = [number_of(event, "mean") for event in events]
    return Series(name, [before + event.samples_seen for event in events], means, band=band)


def _levels(events: Sequence[Event]) -> list[Series]:
    """One curve for each of a few noise levels."""
    times = _list(events[-1], "times")
    chosen = sorted({round(place * (len(times) - 1) / (_LEVELS - 1)) for place in range(_LEVELS)}) if times else []
    same = [event for event in events if _list(event, "times") == times and len(_list(event, "levels")) == len(times)]
    seen = [event.samples_seen for event in same]
    return [Series(f"t = {times[place]:.2g}", seen, [_list(event, "levels")[place] for event in same]) for place in chosen]


def _list(event: Event, name: str) -> list[float]:
    """Numbers of a field that holds a list; none for anything else."""
    found = event.fields.get(name)
    return [each if isinstance(each, int | float) else math.nan for each in found] if isinstance(found, list) else []
