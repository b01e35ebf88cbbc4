"""The part of a run's report that says what to type to resume the run and to sample from it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from open_ldm.pages.content import Part
from open_ldm.run_folder.history import RunHistory, lookup
from open_ldm.run_folder.report.head import command_of

_OPTIONS = {"original_size": "size=256x256", "crop": "crop=0,0", "flip": "flip=0", "aspect_ratio": "aspect=4:3"}


@dataclass(frozen=True)
class Step:
    """A command and what it is for."""

    why: str
    command: str


def commands_part(history: RunHistory) -> Part:
    """Commands that can be typed as they stand."""
    argv = command_of(history.last("start"))
    run = _shown_path(history.folder)
    steps = [Step("Go on with the training (the same command resumes):", shlex.join(argv))] if argv else []
    if lookup(history.config, "network"):
        steps.append(Step("Train a denoiser on its latents:", _use(history, run)))
        return Part("Go on", "commands.html", steps)
    sample = ["ldm", "sample", run, *_semantic_option(history)]
    steps.append(Step("Sample from it:", shlex.join([*sample, "--count", "16"])))
    controls = [str(lookup(control, "kind")) for control in history.controls]
    if options := [_OPTIONS[kind] for kind in controls if kind in _OPTIONS]:
        steps.append(Step("Say how the pictures should have been made:", shlex.join([*sample, *options])))
    return Part("Go on", "commands.html", steps)


def _use(history: RunHistory, run: str) -> str:
    """The setting of a recipe that uses this run's autoencoder."""
    channels, widths = lookup(history.config, "network.latent_channels"), lookup(history.config, "network.widths")
    factor = 2 ** (len(widths) - 1) if isinstance(widths, list) and widths else "?"
    setting = f"autoencoder={{kind: kl, path: {run}/autoencoder, channels: {channels}, factor: {factor}}}"
    return shlex.join(["ldm", "train", "RECIPE", setting])


def _shown_path(folder: Path) -> str:
    resolved = folder.resolve()
    here = Path.cwd()
    return str(resolved.relative_to(here)) if resolved.is_relative_to(here) and resolved != here else str(folder)


def _semantic_option(history: RunHistory) -> list[str]:
    kind = lookup(history.config, "conditioning.semantic.kind")
    previews = [preview for preview in history.previews if preview.shown]
    example = previews[-1].shown[0] if previews else ""
    if kind in (None, "none"):
        return []
    return ["--class", example or "NAME"] if kind == "class" else ["--prompt", example or "TEXT"]
