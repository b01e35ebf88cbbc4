"""The head of a run's report: its name, recipe and state, and its key figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from open_ldm.core.events import Event, duration
from open_ldm.core.overrides import last_given
from open_ldm.pages.content import Fact, Head, Link
from open_ldm.pages.curves import smoothed
from open_ldm.pages.labels import short_number
from open_ldm.run_folder.history import RunHistory, busy_seconds, lookup


def head_of(history: RunHistory) -> Head:
    """What the page begins with."""
    whole = history.folder.resolve().parent
    links = [Link("all stages of this run", "../../report.html")] if whole.name == "stages" else []
    return Head(
        title=history.folder.resolve().name,
        subtitle=" · ".join(_subtitle(history)),
        state=history.state.word,
        tone=history.state.tone,
        reason=history.state.reason,
        facts=_facts(history),
        links=links,
    )


def _subtitle(history: RunHistory) -> list[str]:
    start = history.last("start")
    denoiser = [str(lookup(history.config, f"denoiser.{name}") or "") for name in ("kind", "size")]
    if lookup(history.config, "network"):
        denoiser = ["KL autoencoder"]
    recipe, edition = recipe_name(command_of(start)), history.config.get("edition")
    if recipe and isinstance(edition, int) and edition > 1:
        recipe = f"{recipe.removesuffix(f'@{edition}')}, edition {edition}"
    device = start.text("device") if start else ""
    return [part for part in (f"recipe {recipe}" if recipe else "", " ".join(denoiser).strip(), device) if part]


def command_of(start: Event | None) -> list[str]:
    """The words of the command that started a run, its program without a path; empty when no event tells."""
    argv = start.fields.get("argv") if start else None
    words = [str(word) for word in argv] if isinstance(argv, list) else []
    return [Path(words[0]).name, *last_given(words[1:])] if words else []


def recipe_name(argv: Sequence[str]) -> str:
    """'shapes-text' from `ldm train shapes-text ...` or `ldm train path/shapes-text.yaml`; 'demo' from `ldm demo`."""
    words = [word for word in argv[1:] if not word.startswith("-")]
    if words[:1] == ["autoencoder"]:
        words = words[1:]
    if words[:1] == ["train"]:
        words = words[1:]
    return Path(words[0]).name.removesuffix(".yaml") if words else ""


def _facts(history: RunHistory) -> list[Fact]:
    start = history.last("start")
    total = start.number("total_samples") if start else None
    parameters = start.number("parameters") if start else None
    facts: list[Fact] = []
    if history.events:
        seen = f"{history.samples_seen:,}"
        whole = total and history.samples_seen < total
        facts.append(Fact("Samples seen", f"{seen} of {short_number(total)}" if total and whole else seen))
    train = history.named("train")
    losses = smoothed([math.nan if (loss := event.number("loss")) is None else loss for event in train])
    if losses and math.isfinite(losses[-1]):
        facts.append(Fact("Loss, running mean", f"{losses[-1]:.4g}"))
    if parameters:
        facts.append(Fact("Parameters", short_number(parameters)))
    if seconds := busy_seconds(history.events):
        facts.append(Fact("Time", duration(seconds)))
    if speed := _mean(train, "samples_per_second"):
        facts.append(Fact("Samples per second", f"{speed:,.0f}" if speed >= 10 else f"{speed:.2g}"))
    if (waiting := _mean(train, "data_wait_share")) is not None:
        facts.append(Fact("Waiting for data", f"{100 * waiting:.1f} %"))
    return facts


def _mean(events: Sequence[Event], name: str) -> float | None:
    values = [value for event in events if (value := event.number(name)) is not None and math.isfinite(value)]
    return sum(values) / len(values) if values else None
