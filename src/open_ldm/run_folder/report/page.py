"""report.html: one self-contained page about a run: no script and no request, so it opens anywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from open_ldm.core.files import write_text
from open_ldm.pages.content import Head, Part, Picture, Table, render_page
from open_ldm.run_folder.history import RunHistory, read_history
from open_ldm.run_folder.report.commands import commands_part
from open_ldm.run_folder.report.data import data_part
from open_ldm.run_folder.report.evaluation import evaluation_part
from open_ldm.run_folder.report.files import files_part, recipe_part
from open_ldm.run_folder.report.gates import gates_part
from open_ldm.run_folder.report.head import head_of
from open_ldm.run_folder.report.held_out import held_out_part
from open_ldm.run_folder.report.on_the_way import on_the_way_part
from open_ldm.run_folder.report.sampled import sampled_part
from open_ldm.run_folder.report.samples import samples_part
from open_ldm.run_folder.report.timeline import timeline_part
from open_ldm.run_folder.report.training import training_part
from open_ldm.run_folder.report.transfer import transfer_part

T = TypeVar("T")


@dataclass(frozen=True)
class Section:
    """A part of the page that the caller adds. All text is plain; an empty line parts paragraphs.

    `rows`: a table, each row as long as `columns` (its header, which may be empty).
    """

    title: str
    text: str = ""
    pictures: Sequence[Picture] = ()
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()

    @property
    def paragraphs(self) -> list[str]:
        """Of `text`."""
        return [" ".join(part.split()) for part in self.text.split("\n\n") if part.strip()]

    @property
    def table(self) -> Table:
        """Of `rows`."""
        return Table(self.rows, self.columns)


def write_report(run: Path, sections: Sequence[Section] = ()) -> Path:
    """Write `run`/report.html from what the run folder holds, with the caller's `sections` after the samples.

    Whatever is missing or damaged in the folder is left out. Returns the page's path. Raises DiskError when the disk
    refuses.
    """
    page = run / "report.html"
    write_text(page, render_report(read_history(run), sections))
    return page


def render_report(history: RunHistory, sections: Sequence[Section] = ()) -> str:
    """The whole page as HTML."""
    makers: list[Callable[[], Part | None]] = [
        lambda: samples_part(history),
        *(partial(Part, added.title, "added.html", added) for added in sections),
        lambda: evaluation_part(history.folder, history.samples_seen),
        lambda: sampled_part(history.folder),
        lambda: transfer_part(history.transfer),
        lambda: training_part(history),
        lambda: held_out_part(history),
        lambda: on_the_way_part(history),
        lambda: gates_part(history),
        lambda: data_part(history),
        lambda: timeline_part(history),
        lambda: commands_part(history),
        lambda: files_part(history.folder),
        lambda: recipe_part(history.config_text),
    ]
    try:
        return render_page(head_of(history), [make() for make in makers], "run report")
    except Exception:  # files of a run may say anything; a good run must not end for what its page cannot show
        head = _shown(lambda: head_of(history), lambda made: render_page(made, [], ""), Head(history.folder.resolve().name))
        return render_page(head, [_shown(make, partial(_alone, head), _NOT_SHOWN) for make in makers], "run report")


_NOT_SHOWN: Part | None = Part(
    "A part that cannot be shown", "added.html", Section("", "The files of the run hold something that no run writes.")
)


def _shown(make: Callable[[], T], show: Callable[[T], object], otherwise: T) -> T:
    """Make a part of the page where it can be made and shown."""
    try:
        show(part := make())
        return part
    except Exception:
        return otherwise


def _alone(head: Head, part: Part | None) -> str:
    return render_page(head, [part], "")
