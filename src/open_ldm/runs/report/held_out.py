"""The part of a run's report about pictures it was not trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from open_ldm.core.events import Event
from open_ldm.pages.figures import Plot, Series, line_plot
from open_ldm.pages.markup import Markup, element, joined
from open_ldm.runs.held_out import EVENT
from open_ldm.runs.history import RunHistory
from open_ldm.runs.report.sections import captioned, section

_LEVELS = 5
_TEXT = (
    "The unweighted loss of the averaged weights on held-out pictures, at the same times and with the same noise every time. "
    "Where it rises while the training loss falls, the model begins to learn its pictures by heart."
)


def held_out_section(record: RunHistory) -> Markup:
    """Loss over samples seen, mean and by noise level; nothing where the run measured none."""
    events = record.named(EVENT)
    if not events:
        return Markup()
    seen = [event.samples_seen for event in events]
    band = [(_number(event, "low"), _number(event, "high")) for event in events]
    mean = Series("mean", seen, [_number(event, "mean") for event in events], band=band)
    plots = [
        Plot("Held-out loss", "samples seen", "loss", [mean], width=520, height=300),
        Plot("Held-out loss by noise level", "samples seen", "loss", _levels(events), width=520, height=300),
    ]
    wide = element("div", *map(line_plot, plots), class_="pair wide")
    narrow = element("div", *(line_plot(replace(plot, width=380, height=270)) for plot in plots), class_="narrow")
    count = events[-1].number("pictures")
    note = f"Left: mean over all noise levels, with its 95 % interval over {count or 0:,.0f} pictures. Right: at some levels."
    return section("Held-out pictures", element("p", _TEXT), captioned(joined([wide, narrow]), note))


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


def _number(event: Event, name: str) -> float:
    value = event.number(name)
    return math.nan if value is None else value
