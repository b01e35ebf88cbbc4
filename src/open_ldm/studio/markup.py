"""HTML of what the pages show: pictures as data URIs, so that no file is written for a browser to fetch."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence

from markupsafe import Markup, escape

from open_ldm.studio.device_queue import Progress
from open_ldm.studio.play import Played, PlayedPicture


def data_uri(png: bytes) -> str:
    """Return a PNG file as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def picture(png: bytes, alt: str, *, kind: str = "sample") -> Markup:
    """One picture; small ones are enlarged without smoothing (style.css)."""
    return Markup('<img class="ldm-{}" src="{}" alt="{}">').format(kind, data_uri(png), alt)


def figure(content: Markup, caption: str = "", *, keep_as: str = "", png: bytes = b"") -> Markup:
    """A picture with words below it, and a link to keep its file."""
    link = Markup(' <a href="{}" download="{}">PNG</a>').format(data_uri(png), keep_as) if keep_as else Markup()
    below = Markup("<figcaption>{}{}</figcaption>").format(caption, link) if caption or keep_as else Markup()
    return Markup('<figure class="ldm-figure">{}{}</figure>').format(content, below)


def pictures(found: Played) -> Markup:
    """All pictures of a request, and what was settled for it."""
    cells = [sample_figure(one, found.model) for one in found.pictures]
    words = f"{found.model}, {found.samples_seen:,} samples seen: {found.settings}; {found.seconds:.1f} s"
    return Markup('<p class="ldm-note">{}</p>{}').format(words, gallery(cells))


def sample_figure(one: PlayedPicture, model: str) -> Markup:
    """One sampled picture with its seed."""
    alt = f"sample of {model}, seed {one.seed}" + (f": {one.shows}" if one.shows else "")
    return figure(picture(one.png, alt), f"seed {one.seed}", keep_as=f"{model.replace('/', '-')}-{one.seed}.png", png=one.png)


def gallery(cells: Iterable[Markup]) -> Markup:
    """Figures beside one another, as many as fit."""
    return Markup('<div class="ldm-gallery">{}</div>').format(Markup().join(cells))


def row(title: str, cells: Iterable[Markup]) -> Markup:
    """Figures in one row that scrolls sideways where it is too long, under a title."""
    return Markup('<h2>{}</h2><div class="ldm-row" tabindex="0" role="group" aria-label="{}">{}</div>').format(
        title, title, Markup().join(cells)
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str | Markup]]) -> Markup:
    """A table that scrolls sideways where it is too wide."""
    top = Markup().join(Markup('<th scope="col">{}</th>').format(one) for one in head)
    body = Markup().join(
        Markup("<tr>{}</tr>").format(Markup().join(Markup("<td>{}</td>").format(cell) for cell in one)) for one in rows
    )
    return Markup(
        '<div class="ldm-table" tabindex="0" role="group" aria-label="table"><table><thead><tr>{}</tr></thead>'
        "<tbody>{}</tbody></table></div>"
    ).format(top, body)


def facts(content: Mapping[str, str]) -> Markup:
    """Names and values."""
    return Markup('<dl class="ldm-facts">{}</dl>').format(
        Markup().join(Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(name, value) for name, value in content.items())
    )


def status(text: str = "", *, wrong: bool = False) -> str:
    """What is being done, told to screen readers too."""
    kind = "ldm-wrong" if wrong else "ldm-status"
    return str(Markup('<p class="{}" role="status" aria-live="polite">{}</p>').format(kind, text or "\u00a0"))


def progress(found: Progress) -> str:
    """Where a job stands, with a bar."""
    bar = Markup('<progress max="{}" value="{}" aria-label="progress"></progress>').format(found.total or 1, found.done)
    return str(Markup('<p class="ldm-status" role="status" aria-live="polite">{} {}</p>').format(bar, found.sentence))


def note(text: str) -> Markup:
    """A sentence for people."""
    return Markup('<p class="ldm-note">{}</p>').format(escape(text))
