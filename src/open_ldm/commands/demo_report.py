"""The demo's part of a run's report, from the files that `ldm demo` leaves in the run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from open_ldm.evaluation.shape_attributes import AgreementShares
from open_ldm.pages.content import Picture
from open_ldm.runs.report.page import Section

AGREEMENT, UNSEEN, SIZE_SWEEP, FLIP_SWEEP = "agreement.json", "unseen.png", "size_sweep.png", "flip_sweep.png"
SHARES = ("colour", "kind", "place", "size", "count", "all")


def demo_sections(out: Path) -> list[Section]:
    """Sections for the report; empty for a run that is no demo, or whose agreement.json is damaged."""
    try:
        found = json.loads((out / AGREEMENT).read_text(encoding="utf-8"))
        shares = [row_of(title, AgreementShares(**each)) for title, each in found["agreement"].items()]
        leaks = [[f"{each['t']:g}", change_of(each["change"], each["exact"])] for each in found["size_influence"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []
    return [
        Section(
            "Do the samples show what the captions say?",
            "A reader that knows nothing of the model measures colour, kind and place in each sampled picture and compares"
            " them with the caption. 'all' means colour, kind and place of every shape, and no shape too many.",
            pictures=_pictures(out, {UNSEEN: "Combinations of colour and kind that no training picture shows"}),
            columns=["captions", "pictures", *SHARES],
            rows=shares,
        ),
        Section(
            "Controls: the same noise and caption, only the control differs",
            "Size tells how large the original picture was: small originals are coarse, so detail should change while the"
            " content stays. Flip tells whether the view was mirrored: with flip=1 left and right are exchanged.",
            pictures=_pictures(out, {SIZE_SWEEP: "size control, from a coarse to a fine original", FLIP_SWEEP: "flip control"}),
        ),
        Section(
            "Does the size control leak into the content?",
            "The same noise and captions under size=24x24 and size=160x160: how much the model's prediction changes, relative"
            " to its own size. At t = 1 the picture's content is decided; a gate that is shut there lets nothing through.",
            columns=["t", "change of the prediction"],
            rows=leaks,
        ),
    ]


def row_of(title: str, shares: AgreementShares) -> list[str]:
    """A row of the table: shares in per cent."""
    return [title, str(shares.pictures), *(f"{100 * getattr(shares, name):.0f} %" for name in SHARES)]


def change_of(change: float, exact: bool) -> str:
    """The change of a prediction in words."""
    return "exactly 0" if exact else f"{100 * change:.2g} %"


def _pictures(out: Path, captions: Mapping[str, str]) -> Sequence[Picture]:
    return [
        Picture(caption, (out / file).read_bytes(), href=file) for file, caption in captions.items() if (out / file).is_file()
    ]
