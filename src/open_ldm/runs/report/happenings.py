"""The head of a run's report, what happened in the run, and the commands to go on with it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path

from open_ldm.core.events import Event, duration
from open_ldm.pages.curves import smoothed
from open_ldm.pages.labels import short_number
from open_ldm.pages.markup import Markup, element, joined
from open_ldm.runs.history import RunHistory, busy_seconds, lookup
from open_ldm.runs.report.sections import section, table

_MOST_HAPPENINGS = 40
_OPTIONS = {"original_size": "size=256x256", "crop": "crop=0,0", "flip": "flip=0", "aspect_ratio": "aspect=4:3"}


def head(record: RunHistory) -> Markup:
    """Name, recipe and state of the run, and its key figures."""
    state = record.state
    pill = element("span", state.word, class_=f"state {state.tone}")
    return element(
        "header",
        element("div", element("h1", record.folder.resolve().name), pill, class_="title"),
        element("p", " · ".join(_subtitle(record)), class_="subtitle"),
        element("p", state.reason, class_=f"subtitle {state.tone}") if state.reason else Markup(),
        element("dl", *(_fact(name, value) for name, value in _facts(record)), class_="facts"),
    )


def _fact(name: str, value: str) -> Markup:
    return element("div", element("dt", name), element("dd", value))


def _subtitle(record: RunHistory) -> list[str]:
    start = record.last("start")
    denoiser = [str(lookup(record.config, f"denoiser.{name}") or "") for name in ("kind", "size")]
    if lookup(record.config, "network"):
        denoiser = ["KL autoencoder"]
    recipe = recipe_name(_argv(start))
    device = start.text("device") if start else ""
    return [part for part in (f"recipe {recipe}" if recipe else "", " ".join(denoiser).strip(), device) if part]


def recipe_name(argv: Sequence[str]) -> str:
    """'shapes-text' from `ldm train shapes-text ...` or `ldm train path/shapes-text.yaml`; 'demo' from `ldm demo`."""
    words = [word for word in argv[1:] if not word.startswith("-")]
    if words[:1] == ["autoencoder"]:
        words = words[1:]
    if words[:1] == ["train"]:
        words = words[1:]
    return Path(words[0]).name.removesuffix(".yaml") if words else ""


def _facts(record: RunHistory) -> list[tuple[str, str]]:
    start = record.last("start")
    total = start.number("total_samples") if start else None
    parameters = start.number("parameters") if start else None
    facts: list[tuple[str, str]] = []
    if record.events:
        seen = f"{record.samples_seen:,}"
        facts.append(("Samples seen", f"{seen} of {short_number(total)}" if total and record.samples_seen < total else seen))
    train = record.named("train")
    losses = smoothed([math.nan if (loss := event.number("loss")) is None else loss for event in train])
    if losses and math.isfinite(losses[-1]):
        facts.append(("Loss, running mean", f"{losses[-1]:.4g}"))
    if parameters:
        facts.append(("Parameters", short_number(parameters)))
    if seconds := busy_seconds(record.events):
        facts.append(("Time", duration(seconds)))
    if speed := _mean(train, "samples_per_second"):
        facts.append(("Samples per second", f"{speed:,.0f}" if speed >= 10 else f"{speed:.2g}"))
    if (waiting := _mean(train, "data_wait_share")) is not None:
        facts.append(("Waiting for data", f"{100 * waiting:.1f} %"))
    return facts


def _mean(events: Sequence[Event], name: str) -> float | None:
    values = [value for event in events if (value := event.number(name)) is not None and math.isfinite(value)]
    return sum(values) / len(values) if values else None


def history_section(record: RunHistory) -> Markup:
    """Starts, resumes, warnings, non-finite steps and ends, in order; superseded ones too, for they did happen."""
    told = [event for event in record.events if event.name in ("start", "resume", "warning", "nonfinite", "end")]
    newest = record.last("checkpoint")
    rows = [
        [event.time[:19].replace("T", " "), f"{event.samples_seen:,}", _happening(event)] for event in told[-_MOST_HAPPENINGS:]
    ]
    left_out = f"{len(told) - _MOST_HAPPENINGS} earlier entries are in events.jsonl." if len(told) > len(rows) else ""
    return section(
        "What happened",
        element("p", left_out, class_="note") if left_out else Markup(),
        table(rows, ["time (UTC)", "samples seen", ""]),
        element("p", f"Newest checkpoint: {_checkpoint(newest)}.", class_="note") if newest else Markup(),
    )


def _happening(event: Event) -> str:
    match event.name:
        case "resume":
            return f"resumed, bitwise: {event.text('bitwise') or 'unknown'}"
        case "warning":
            return f"warning: {event.text('message')}"
        case "nonfinite":
            details = ", ".join(f"{name} {value}" for name, value in event.fields.items())
            return f"loss or gradients not finite{f' ({details})' if details else ''}"
        case "end":
            seconds = event.number("seconds")
            took = f", {duration(seconds)}" if seconds is not None and math.isfinite(seconds) else ""
            reason = event.text("reason")
            return f"ended with code {event.text('code')}{f': {reason}' if reason else ''}{took}"
        case _:
            return "started" + (f": {shlex.join(argv)}" if (argv := _argv(event)) else "")


def _checkpoint(event: Event) -> str:
    size, seconds = event.number("bytes"), event.number("seconds")
    parts = [event.text("name")]
    if size is not None:
        parts.append(f"{size / 1e6:,.1f} MB")
    if seconds is not None:
        parts.append(f"saved in {seconds:.2g} s")
    return ", ".join(parts)


def commands_section(record: RunHistory) -> Markup:
    """What to type to resume the run and to sample from it."""
    argv = _argv(record.last("start"))
    run = _shown_path(record.folder)
    sample = ["ldm", "sample", run, *_semantic_option(record)]
    controls = [str(lookup(control, "kind")) for control in record.controls]
    options = [_OPTIONS[kind] for kind in controls if kind in _OPTIONS]
    blocks = [("Go on with the training (the same command resumes):", shlex.join(argv))] if argv else []
    if lookup(record.config, "network"):
        blocks.append(("Train a denoiser on its latents:", _use(record, run)))
    else:
        blocks.append(("Sample from it:", shlex.join([*sample, "--count", "16"])))
        if options:
            blocks.append(("Say how the pictures should have been made:", shlex.join([*sample, *options])))
    return section("Go on", joined(joined([element("p", why, class_="step"), element("pre", do)]) for why, do in blocks))


def _use(record: RunHistory, run: str) -> str:
    """The setting of a recipe that uses this run's autoencoder."""
    channels, widths = lookup(record.config, "network.latent_channels"), lookup(record.config, "network.widths")
    factor = 2 ** (len(widths) - 1) if isinstance(widths, list) and widths else "?"
    setting = f"autoencoder={{kind: kl, path: {run}/autoencoder, channels: {channels}, factor: {factor}}}"
    return shlex.join(["ldm", "train", "RECIPE", setting])


def _argv(start: Event | None) -> list[str]:
    argv = start.fields.get("argv") if start else None
    words = [str(word) for word in argv] if isinstance(argv, list) else []
    return [Path(words[0]).name, *words[1:]] if words else []


def _shown_path(folder: Path) -> str:
    resolved = folder.resolve()
    here = Path.cwd()
    return str(resolved.relative_to(here)) if resolved.is_relative_to(here) and resolved != here else str(folder)


def _semantic_option(record: RunHistory) -> list[str]:
    kind = lookup(record.config, "conditioning.semantic.kind")
    previews = [preview for preview in record.previews if preview.shown]
    example = previews[-1].shown[0] if previews else ""
    if kind in (None, "none"):
        return []
    return ["--class", example or "NAME"] if kind == "class" else ["--prompt", example or "TEXT"]


def config_section(record: RunHistory) -> Markup:
    """The resolved recipe, folded."""
    if not record.config_text.strip():
        return Markup()
    shown = element("details", element("summary", "config.yaml, resolved and runnable"), element("pre", record.config_text))
    return section("Recipe", shown)
