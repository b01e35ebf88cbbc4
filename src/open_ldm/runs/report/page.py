"""report.html: one self-contained page about a run: no script, no external link, so it opens anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from open_ldm.core.files import write_text
from open_ldm.pages.markup import Markup, element, joined
from open_ldm.runs.history import RunHistory, read_history
from open_ldm.runs.report.data import data_section
from open_ldm.runs.report.happenings import commands_section, config_section, head, history_section
from open_ldm.runs.report.held_out import held_out_section
from open_ldm.runs.report.sections import (
    captioned,
    gates_section,
    picture,
    samples_section,
    section,
    table,
    training_section,
)
from open_ldm.runs.report.transfer import transfer_section


@dataclass(frozen=True)
class CaptionedPicture:
    """A PNG file's bytes and the line below it."""

    caption: str
    png: bytes


@dataclass(frozen=True)
class Section:
    """A part of the page that the caller adds. All text is plain: it is escaped here; an empty line parts paragraphs.

    `rows`: a table, each row as long as `columns` (its header, which may be empty).
    """

    title: str
    text: str = ""
    pictures: Sequence[CaptionedPicture] = ()
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()


def write_report(run: Path, sections: Sequence[Section] = ()) -> Path:
    """Write `run`/report.html from what the run folder holds, with the caller's `sections` after the samples.

    Whatever is missing or damaged in the folder is left out. Returns the page's path. Raises DiskError when the disk
    refuses.
    """
    page = run / "report.html"
    write_text(page, render(read_history(run), sections))
    return page


def render(record: RunHistory, sections: Sequence[Section] = ()) -> str:
    """The whole page as HTML."""
    content = [
        head(record),
        samples_section(record),
        *map(_added, sections),
        transfer_section(record),
        training_section(record),
        held_out_section(record),
        gates_section(record),
        data_section(record),
        history_section(record),
        commands_section(record),
        config_section(record),
    ]
    return page(record.folder.resolve().name, content)


def page(title: str, content: Sequence[Markup], what: str = "run report") -> str:
    """A page of sections, with its style inside. `what` it is stands behind the title."""
    style = resources.files("open_ldm.pages").joinpath("report.css").read_text(encoding="utf-8")
    page_head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"{title} · {what}"),
        element("style", Markup(style)),
    )
    body = element("body", element("main", *content))
    return "<!doctype html>\n" + element("html", page_head, body, lang="en") + "\n"


def _added(added: Section) -> Markup:
    paragraphs = [" ".join(part.split()) for part in added.text.split("\n\n") if part.strip()]
    pictures = [captioned(picture(one.png, one.caption or added.title), one.caption) for one in added.pictures]
    return section(
        added.title,
        joined(element("p", paragraph) for paragraph in paragraphs),
        table(added.rows, added.columns),
        element("div", *pictures, class_="gallery") if pictures else Markup(),
    )
