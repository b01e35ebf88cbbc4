"""The part of a run's report that shows the newest pictures of `ldm sample`, from RUN/drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_ldm.core.counted import counted
from open_ldm.core.files import read_json_object
from open_ldm.pages.content import Link, Part, Picture, link_to
from open_ldm.run_folder.history import lookup
from open_ldm.run_folder.report.data import shown

_GRID, _SETTINGS = "grid.png", "samples.json"
_MOST_BYTES = 8_000_000


@dataclass(frozen=True)
class Sampled:
    """The newest grid of sampled pictures.

    Attributes:
        grid: The picture; None where it is too large for a page.
        file: Its file.
        settings: How it was sampled, in words.
        requests: What all of its pictures were asked for, in words.
    """

    grid: Picture | None
    file: Link
    settings: str
    requests: str


def sampled_part(folder: Path) -> Part | None:
    """The newest of RUN/drawn/0001, 0002, ...; None when there is none."""
    numbered = [each for each in (folder / "drawn").glob("*") if each.name.isdigit()]
    for newest in sorted(numbered, key=lambda each: int(each.name), reverse=True):
        try:
            png = (newest / _GRID).read_bytes()
        except OSError:
            continue  # still being written, or removed
        content = read_json_object(newest / _SETTINGS)
        settings, file = sampling_words(content), link_to(newest / _GRID, folder / "report.html")
        picture = Picture(settings, png, "newest sampled pictures", file.href) if len(png) <= _MOST_BYTES else None
        return Part("Newest samples", "run/sampled.html", Sampled(picture, file, settings, _requests(content)))
    return None


def sampling_words(content: Mapping[str, Any]) -> str:
    """How pictures were sampled, from the content of samples.json: 'euler, 20 steps, semantic scale 3, ...'."""
    solver, steps = lookup(content, "sampling.solver"), lookup(content, "sampling.steps")
    words = [str(solver)] if solver else []
    words += [f"{shown(steps)} steps"] if steps is not None else []
    for name in ("semantic_scale", "control_scale"):
        scale = lookup(content, f"sampling.guidance.{name}")
        words += [f"{name.replace('_', ' ')} {shown(scale)}"] if scale is not None else []
    seen = content.get("samples_seen")
    words += [f"at {shown(seen)} samples seen"] if seen is not None else []
    return ", ".join(words)


def _requests(content: Mapping[str, Any]) -> str:
    """Seeds, controls and the negative prompt, where all pictures share them."""
    pictures = [each for each in _list(content.get("pictures")) if isinstance(each, Mapping)]
    if not pictures:
        return ""
    seeds = sorted({each["seed"] for each in pictures if isinstance(each.get("seed"), int)})
    words = [counted(len(pictures), "picture")]
    words += [f"seeds {seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0]}"] if seeds else []
    controls = [each.get("controls") for each in pictures]
    first = controls[0]
    if isinstance(first, Mapping) and first and all(each == first for each in controls):
        words.append(" ".join(f"{name}={value}" for name, value in first.items()))
    negative = content.get("negative_prompt")
    words += [f"negative prompt {str(negative)!r}"] if negative else []
    return ", ".join(words)


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else ()
