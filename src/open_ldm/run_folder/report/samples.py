"""The part of a run's report that shows its previews: the newest large, earlier ones in a strip below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from open_ldm.pages.content import Part, Picture, link_to
from open_ldm.run_folder.history import Preview, RunHistory

_MOST_PREVIEWS = 12


@dataclass(frozen=True)
class Samples:
    """The newest preview and earlier ones, the oldest first."""

    newest: Picture
    earlier: Sequence[Picture]


def samples_part(history: RunHistory) -> Part | None:
    """How the same noise looked through training; None before the first preview."""
    pictures = [preview_picture(history, preview) for preview in evenly(history.previews, _MOST_PREVIEWS)]
    if not pictures:
        return None
    return Part("Samples through time", "run/samples.html", Samples(pictures[-1], pictures[:-1]))


def preview_picture(history: RunHistory, preview: Preview, page_of: RunHistory | None = None) -> Picture:
    """A preview grid with its file, for the page of its own run or of `page_of`."""
    seen = preview.path.stem if preview.samples_seen is None else f"after {preview.samples_seen:,} samples"
    alt = "Preview " + seen + (": " + ", ".join(preview.shown) if preview.shown else "")
    page = (page_of or history).folder / "report.html"
    return Picture(seen, preview.path.read_bytes(), alt, link_to(preview.path, page).href)


def evenly(items: Sequence[Preview], most: int) -> list[Preview]:
    """At most `most` of the items, evenly spread, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]
