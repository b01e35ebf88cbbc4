"""The demo's page: the size slider of both models, left and right, crisp shapes, and the numbers."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from open_ldm.commands.demo.captions import UNSEEN, untold_captions
from open_ldm.commands.demo.measure import ModelFindings
from open_ldm.commands.demo.verdict import BASELINE_CHANGES, FLIP_WORKS, IMPROVED_KEEPS, Claim, in_words
from open_ldm.core.files import write_text
from open_ldm.core.pictures import grid, png_bytes
from open_ldm.data.shape_words import HELD_OUT, KINDS, PLACES
from open_ldm.evaluation.bootstrap import Estimate
from open_ldm.pages.content import Fact, Head, Part, Picture, Table, link_to, render_page
from open_ldm.sources.shapes import ShapesConfig

_COLUMNS = 4
_SHOWN_PX = 128
"""The side that every picture is enlarged to."""
_ON_THE_SLIDER = 8
_LEFT_AND_RIGHT = 8


@dataclass(frozen=True)
class Column:
    """One model's half of a part: its pictures, one number in large letters, and what the number says."""

    name: str
    pictures: Sequence[Picture]
    number: str
    says: str
    tone: str
    besides: str = ""

    @property
    def picture(self) -> Picture:
        """The first of its pictures."""
        return self.pictures[0]


@dataclass(frozen=True)
class Slider:
    """Pictures of several models under each position of one control."""

    text: str
    positions: Sequence[str]
    models: Sequence[Column]


@dataclass(frozen=True)
class Beside:
    """Pictures beside one another."""

    text: str
    columns: Sequence[Column]
    note: str = ""


@dataclass(frozen=True)
class Claims:
    """What was claimed and found, and how to go on."""

    table: Table
    note: str
    commands: Sequence[str]


def write_page(
    page: Path,
    drawings: ShapesConfig,
    baseline: ModelFindings,
    improved: ModelFindings,
    claims: Sequence[Claim],
    seconds: float,
) -> None:
    """Write the page, whole or not at all.

    Args:
        page: Its file; the run folders lie beside it.
        drawings: What the models were trained on.
        baseline: Of the entangled model.
        improved: Of the improved one.
        claims: What was judged.
        seconds: What the demo took.
    """
    wrong = [claim for claim in claims if claim.wrong]
    head = Head(
        title="Improved conditioning, in minutes",
        subtitle=f"Two small models learned the same drawings. {_colours_of(drawings)}"
        " One model is conditioned as in SDXL, the other as Berrada et al. (2024) propose.",
        state="not shown" if wrong else "shown",
        tone="bad" if wrong else "good",
        reason="; ".join(f"{claim.expected}: {claim.found}" for claim in wrong),
        facts=[
            Fact("colour follows the size, entangled", in_words(baseline.content_change)),
            Fact("colour follows the size, improved", in_words(improved.content_change)),
            Fact("detail by size, entangled", _effect(baseline.control_effect)),
            Fact("detail by size, improved", _effect(improved.control_effect)),
            Fact("time", f"{seconds / 60:.1f} min"),
        ],
        links=[link_to(page.parent / name / "report.html", page, f"report of {name}") for name in ("entangled", "improved")],
    )
    parts = [
        Part("Move the slider: one noise, one caption, another original size", "demo/slider.html", _slider(baseline, improved)),
        *_other_parts(drawings, baseline, improved),
        Part("What was claimed, and found", "demo/claims.html", _claims(claims, page.parent / "improved", improved)),
    ]
    write_text(page, render_page(head, parts, "open-ldm demo"))


def _colours_of(drawings: ShapesConfig) -> str:
    """How the size of the originals goes with the colour in these drawings, and who says the colour."""
    untold = "half of the captions do not say" if drawings.told_too else "no caption says"
    entangled, first, last = drawings.entangle, drawings.colours[0], drawings.colours[-1]
    if entangled is None or entangled.size != "colour" or entangled.strength == 0:
        return f"The colour does not depend on the size of the original, and {untold} it."
    rest = "" if entangled.strength == 1 else ", and the others have any size"
    return (
        f"In {100 * entangled.strength:.0f} % of them the size of the original goes with the colour,"
        f" from {first} in the smallest to {last} in the largest{rest}; {untold} the colour."
    )


def _other_parts(drawings: ShapesConfig, baseline: ModelFindings, improved: ModelFindings) -> Sequence[Part]:
    """What is looked at besides the size."""
    parts = []
    if improved.place is not None:
        sides = _sides(drawings, baseline, improved)
        parts.append(Part("Left and right, when views are mirrored at random", "demo/side_by_side.html", sides))
    if UNSEEN in improved.pixels:
        unseen = _unseen(drawings, baseline, improved)
        parts.append(Part("Shapes in colours never seen together", "demo/side_by_side.html", unseen))
    return parts


def _sizes_px(found: ModelFindings) -> Sequence[int]:
    """The positions of the size slider."""
    return [int(name.removeprefix("size=")) for name in found.pixels if name.startswith("size=")]


def _slider(baseline: ModelFindings, improved: ModelFindings) -> Slider:
    sizes_px = _sizes_px(improved)

    def column(name: str, found: ModelFindings, tone: str) -> Column:
        """Return what the slider shows of one model: pictures of every size, and its two numbers."""
        pictures = [
            Picture("", _grid(_chosen(found.pixels[f"size={side}"])), alt=f"{name}, original size {side} px")
            for side in sizes_px
        ]
        says = "of the pictures change their colour somewhere along the slider"
        besides = f"Detail changes {_effect(found.control_effect)} times as much as in real pictures of these sizes."
        return Column(name, pictures, in_words(found.content_change), says, tone, besides)

    text = (
        f"The size tells the model how large the original picture was: {sizes_px[0]} px is blurred, {sizes_px[-1]} px is sharp."
        " It should change the detail, and nothing else. The captions of these pictures name kind, size and place, but no"
        " colour."
    )
    models = [
        column("entangled", baseline, "bad" if baseline.content_change.low > BASELINE_CHANGES else ""),
        column("improved", improved, "good" if improved.content_change.high < IMPROVED_KEEPS else ""),
    ]
    return Slider(text, [f"{side}x{side} px" for side in sizes_px], models)


def _sides(drawings: ShapesConfig, baseline: ModelFindings, improved: ModelFindings) -> Beside:
    captions = untold_captions(drawings, _LEFT_AND_RIGHT)
    largest = f"size={_sizes_px(improved)[-1]}"

    def column(name: str, pixels: Tensor, share: Estimate | None, says: str) -> Column:
        picture = Picture("", _grid(pixels[:_LEFT_AND_RIGHT]), alt=f"{name}: {'; '.join(captions)}")
        tone = "" if share is None else "good" if share.low > FLIP_WORKS else "bad" if share.high < FLIP_WORKS else ""
        return Column(name, [picture], in_words(share) if share else "", says, tone)

    columns = [
        column("entangled, not told of flips", baseline.pixels[largest], baseline.place, "show the side they name"),
        column("improved, flip=0", improved.pixels[largest], improved.place, "show the side they name"),
    ]
    if "flip=1" in improved.pixels:
        mirrored = improved.mirrored
        columns.append(column("improved, flip=1", improved.pixels["flip=1"], mirrored, "are the mirror image"))
    text = (
        "Some of the training views were mirrored, and their captions were not changed. A model that is told which ones"
        " learns what left and right mean, and mirrors on request. The captions of these pictures alternate: left, right."
    )
    return Beside(text, columns)


def _unseen(drawings: ShapesConfig, baseline: ModelFindings, improved: ModelFindings) -> Beside:
    def column(name: str, found: ModelFindings) -> Column:
        picture = Picture("", _grid(found.pixels[UNSEEN][: 4 * _COLUMNS]), alt=f"{name}: {', '.join(map(' '.join, HELD_OUT))}")
        return Column(name, [picture], f"{100 * found.agreement[UNSEEN].all:.0f} %", "are right in every attribute", "")

    pairs = ", ".join(" ".join(pair) for pair in HELD_OUT)
    text = f"Captions that say the colour, in combinations that no training picture shows: {pairs}."
    note = (
        f"A reader that knows nothing of the models measures colour, kind and place; there are {len(drawings.colours)} colours,"
        f" {len(KINDS)} kinds and {len(PLACES)} places."
    )
    return Beside(text, [column("entangled", baseline), column("improved", improved)], note)


def _claims(claims: Sequence[Claim], run: Path, improved: ModelFindings) -> Claims:
    rows = [[claim.expected, claim.found, "wrong" if claim.wrong else "ok"] for claim in claims]
    note = (
        "Intervals in brackets are at 95 %. A claim is wrong where its interval lies on the wrong side of its bound. What each"
        " number means: docs/evaluation.md; the drawings: docs/entangled-data.md; the method: docs/method.md."
    )
    return Claims(Table(rows, ["claim", "found", ""]), note, next_commands(run, improved))


def next_commands(run: Path, found: ModelFindings) -> list[str]:
    """Return commands that go on from the improved model, of which the run folder and the findings are given."""
    largest, flip = _sizes_px(found)[-1], "" if found.mirrored is None else " flip=0"
    return [
        f"ldm sample {shlex.quote(str(run))} --prompt 'a large circle on the left' size={largest}x{largest}{flip}",
        f"ldm evaluate {shlex.quote(str(run))} --metrics content_change,control_effect",
        "ldm study control-parametrisation",
    ]


def _chosen(pixels: Tensor) -> Tensor:
    """Those of every other caption, so that kinds, sizes and places all occur among few; fewer where there are few."""
    return pixels[[at for i in range(_ON_THE_SLIDER) if (at := 2 * i + (i // 2) % 2) < len(pixels)]]


def _grid(pixels: Tensor) -> bytes:
    return png_bytes(grid(list(pixels), _COLUMNS, scale=_SHOWN_PX // pixels.shape[-1], gap=4))


def _effect(found: Estimate) -> str:
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"
