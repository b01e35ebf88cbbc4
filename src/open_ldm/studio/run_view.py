"""Runs: what a run tells while it trains, as HTML: its curves over its recipe's reference, samples and events."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from markupsafe import Markup

from open_ldm.core.events import Event
from open_ldm.pages.charts import Plot, Series
from open_ldm.pages.figures import line_plot
from open_ldm.run_folder.history import HELD_OUT, Preview, RunHistory, lookup
from open_ldm.run_folder.reference_curve import ReferenceCurve, levels_of, reference_under
from open_ldm.run_folder.report.training import axis_for, curve_of
from open_ldm.studio.markup import facts, figure, note, picture, row, table

_PREVIEWS = 8
_EVENTS = 12
_PHONE_PX = 360
_PREVIEW_BYTES = 4 << 20
_SHOWN_EVENTS = ("start", "resume", "length", "warning", "nonfinite", "rollback", "checkpoint", "end")


def run_html(history: RunHistory, *, is_running: bool) -> Markup:
    """Return a run as HTML; `is_running`: a process of this machine trains it."""
    reference = reference_under(history)
    parts = [run_facts(history, is_running), *(plot_html(plot) for plot in plots(history, reference))]
    if reference is not None:
        parts.append(note(f"Reference, with the band of its seeds: {reference.sentence}."))
    parts += [samples_html(history.previews), events_html(history.events)]
    return Markup().join(parts)


def run_facts(history: RunHistory, is_running: bool) -> Markup:
    """Where it stands, in a few numbers."""
    state, train = history.state, history.last("train")
    total = lookup(history.config, "training.samples")
    seen = f"{history.samples_seen:,}" + (f" of {total:,}" if isinstance(total, int) else "")
    word = state.word if is_running or state.word != "running" else "running, or killed: no process here"
    content = {"state": word, "samples seen": seen}
    if state.reason:
        content["reason"] = state.reason
    if train is not None:
        for name, field, form in (("loss", "loss", ".4g"), ("samples/s", "samples_per_second", ".3g")):
            value = train.number(field)
            if value is not None and math.isfinite(value):
                content[name] = format(value, form)
    return facts(content)


def plots(history: RunHistory, reference: ReferenceCurve | None) -> list[Plot]:
    """Loss, loss by noise level, throughput: those that the run has."""
    train = history.named("train")
    found: list[Plot] = []
    if train:
        loss = curve_of(train, "loss", "this run", smooth=True)
        under = [] if reference is None else [reference.loss.series("reference")]
        found.append(Plot("Loss", "samples seen", "loss", [loss, *under], y_axis=axis_for([loss]), width=640, height=300))
    levels = _level_series(history, reference)
    if levels:
        title = "Held-out loss by noise level"
        found.append(Plot(title, "t (0 = data, 1 = noise)", "loss", levels, width=640, height=300))
    speed = curve_of(train, "samples_per_second", "throughput")
    if any(math.isfinite(value) for value in speed.y):
        found.append(Plot("Throughput", "samples seen", "samples/s", [speed], from_zero=True, width=640, height=200))
    return found


def plot_html(plot: Plot) -> Markup:
    """A plot with its title, drawn twice: on a phone the letters of a wide one would be too small to read."""
    narrow = line_plot(replace(plot, width=_PHONE_PX, height=round(0.8 * plot.height)))
    both = Markup('<div class="ldm-plot ldm-wide">{}</div><div class="ldm-plot ldm-narrow">{}</div>')
    return Markup("<h2>{}</h2>{}").format(plot.title, both.format(line_plot(plot), narrow))


def samples_html(previews: Sequence[Preview]) -> Markup:
    """Previews through time, the newest first."""
    cells = []
    for preview in list(reversed(previews))[:_PREVIEWS]:
        try:
            if preview.path.stat().st_size > _PREVIEW_BYTES:
                continue
            content = preview.path.read_bytes()
        except OSError:
            continue  # a newer one has replaced it
        seen = "" if preview.samples_seen is None else f"{preview.samples_seen:,} samples seen"
        cells.append(figure(picture(content, f"preview, {seen}", kind="grid"), seen))
    return row("Samples through time, the newest first", cells) if cells else Markup()


def events_html(events: Sequence[Event]) -> Markup:
    """What happened, the newest first: starts, resumes, rollbacks, warnings, saves, ends."""
    shown = [event for event in events if event.name in _SHOWN_EVENTS][-_EVENTS:]
    rows = [[event.time[11:19], f"{event.samples_seen:,}", event.name, _details(event)] for event in reversed(shown)]
    return Markup("<h2>Events</h2>") + table(["time (UTC)", "samples seen", "event", "details"], rows) if rows else Markup()


def _details(event: Event) -> str:
    named = ("reason", "message", "name", "bitwise", "code", "seconds")
    return ", ".join(f"{name} {event.fields[name]}" for name in named if event.fields.get(name) not in (None, ""))[:200]


def _level_series(history: RunHistory, reference: ReferenceCurve | None) -> list[Series]:
    """The newest and the first held-out loss by noise level, and the reference's."""
    newest = levels_of(history, "this run, newest")
    measured = history.named(HELD_OUT)
    if newest is None:
        return []
    series = [newest]
    if len(measured) > 1:
        times, values = measured[0].fields.get("times"), measured[0].fields.get("levels")
        if isinstance(times, list) and isinstance(values, list) and len(times) == len(values):
            series.append(Series("this run, first", times, values))
    if reference is not None and reference.levels is not None:
        series.append(reference.levels.series("reference"))
    return series
