"""The pictures and curves of a run's report; each section is empty markup when there is nothing to show."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from pydantic import TypeAdapter, ValidationError

from open_ldm.controls.gate import GateConfig, gamma
from open_ldm.core.events import Event
from open_ldm.pages.figures import Mark, Plot, Series, line_plot
from open_ldm.pages.markup import Markup, element, joined
from open_ldm.runs.history import Preview, RunHistory, lookup

_MOST_PREVIEWS = 12
_SHORT_CELL = 20


def section(title: str, *content: str) -> Markup:
    """A titled section, or nothing when all of its content is empty."""
    return element("section", element("h2", title), *content) if any(content) else Markup()


def picture(png: bytes, alt: str) -> Markup:
    """An inlined PNG."""
    source = "data:image/png;base64," + base64.b64encode(png).decode()
    return element("img", src=source, alt=alt, loading="lazy")


def captioned(content: str, caption: str, class_: str | None = None) -> Markup:
    """A figure with its caption below."""
    return element("figure", content, element("figcaption", caption), class_=class_)


def table(rows: Sequence[Sequence[str]], header: Sequence[str] = ()) -> Markup:
    """A table that scrolls sideways on a narrow page; empty without rows."""
    if not rows:
        return Markup()
    head = element("tr", *(element("th", name, scope="col") for name in header)) if header else Markup()
    body = joined(element("tr", *(_cell(text) for text in row)) for row in rows)
    return element("div", element("table", head, body), class_="scroll")


def _cell(text: str) -> Markup:
    return element("td", text, class_="short" if len(text) <= _SHORT_CELL else None)


def samples_section(record: RunHistory) -> Markup:
    """The newest preview grid large, and how the same noise looked earlier in a strip below."""
    if not record.previews:
        return Markup()
    *earlier, newest = evenly(record.previews, _MOST_PREVIEWS)
    strip = joined(_preview(preview) for preview in earlier)
    note = "The same noise and conditions earlier in training:" if earlier else ""
    return section(
        "Samples through time",
        _preview(newest, "newest"),
        element("p", note, class_="note") if note else Markup(),
        element("div", strip, class_="strip", tabindex="0") if strip else Markup(),
    )


def _preview(preview: Preview, class_: str | None = None) -> Markup:
    seen = preview.path.stem if preview.samples_seen is None else f"after {preview.samples_seen:,} samples"
    alt = "Preview " + seen + (": " + ", ".join(preview.shown) if preview.shown else "")
    return captioned(picture(preview.path.read_bytes(), alt), seen, class_)


def evenly(items: Sequence[Preview], most: int) -> list[Preview]:
    """At most `most` of the items, evenly spread, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]


def training_section(record: RunHistory) -> Markup:
    """Loss large, learning rate and throughput small beside it."""
    train = record.named("train")
    if not train:
        return Markup()
    marks = [
        *(Mark(event.samples_seen, f"resumed at {event.samples_seen:,} samples") for event in record.named("resume")),
        *(Mark(event.samples_seen, f"not finite at {event.samples_seen:,} samples") for event in record.named("nonfinite")),
    ]
    loss = _curve(train, "loss", smooth=True)
    positive = [value for value in loss.y if math.isfinite(value) and value > 0]
    steep = bool(positive) and max(positive) > 4 * min(positive)
    plot = Plot("Loss", "samples seen", "loss", [loss], marks, y_axis="log" if steep else "linear", width=690, height=400)
    # Text in an SVG shrinks with it, so a narrow page gets a drawing of its own.
    wide, narrow = line_plot(plot), line_plot(replace(plot, width=380, height=270))
    both = joined([element("div", wide, class_="wide"), element("div", narrow, class_="narrow")])
    noted = f"Loss: each record faint, running mean strong{', dashed: resumed or not finite' if marks else ''}."
    main = captioned(both, noted)
    rate = _small_plot(train, "learning_rate", "Learning rate", "learning rate")
    speed = _small_plot(train, "samples_per_second", "Throughput", "samples/s")
    return section("Training", element("div", main, element("div", rate, speed), class_="plots"))


def _curve(train: Sequence[Event], name: str, smooth: bool = False) -> Series:
    values = [event.number(name) for event in train]
    return Series(name, [event.samples_seen for event in train], [math.nan if v is None else v for v in values], smooth=smooth)


def _small_plot(train: Sequence[Event], name: str, title: str, unit: str) -> Markup:
    curve = _curve(train, name)
    if not any(math.isfinite(value) for value in curve.y):
        return Markup()
    return captioned(line_plot(Plot(title, "samples seen", unit, [curve], from_zero=True, width=380, height=200)), f"{title}.")


def gates_section(record: RunHistory) -> Markup:
    """gamma(t) of every control: when, between noise and data, it acts."""
    times = torch.linspace(0, 1, 201, dtype=torch.float64)
    groups: dict[str, list[str]] = {}
    curves: dict[str, list[float]] = {}
    for control in record.controls:
        try:
            gate = TypeAdapter(GateConfig).validate_python(lookup(control, "gate"))
        except ValidationError:
            continue
        words = " ".join([gate.kind, *(f"α = {value:g}" for name, value in gate if name != "kind")]).replace("_", " ")
        groups.setdefault(words, []).append(str(lookup(control, "kind")).replace("_", " "))
        curves[words] = gamma(gate, times).tolist()
    if not groups:
        return Markup()
    series = [Series(f"{', '.join(names)} ({words})", times.tolist(), curves[words]) for words, names in groups.items()]
    plot = Plot("Gates of the controls", "t (0 = data, 1 = noise)", "γ(t)", series, width=640, height=300)
    words = (
        "How strongly each control condition acts along the way from noise (t = 1, right) to data (t = 0, left). "
        "A gate that is 0 at t = 1 keeps its control out of the decision what the picture shows."
    )
    narrow = line_plot(replace(plot, width=380, height=260))
    both = joined([element("div", line_plot(plot), class_="wide"), element("div", narrow, class_="narrow")])
    return section("Gates of the controls", element("p", words), element("figure", both, class_="medium"))
