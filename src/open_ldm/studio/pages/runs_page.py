"""The page Runs: live curves, samples and events; starting, stopping and going on."""

from __future__ import annotations

from collections.abc import Callable

from markupsafe import Markup

from open_ldm.core.errors import OpenLdmError
from open_ldm.studio.markup import status
from open_ldm.studio.pages.base import Studio
from open_ldm.studio.run_view import run_html

_EVERY_SECONDS = 5.0
Seen = tuple[str, str]
"""HTML of a run, and the sign by which a newer state is told from it."""


def build(studio: Studio) -> None:
    """Build the page."""
    gr, trainings = studio.gr, studio.trainings
    names = studio.models.names
    with gr.Row():
        run = studio.remember("run", gr.Dropdown(names, value=names[0], label="Run", scale=3))
        live = studio.remember("live", gr.Checkbox(True, label="Live", info="looks again every 5 seconds", scale=1))
    with gr.Row():
        start = gr.Button("Start or go on", variant="primary", visible=bool(trainings.names))
        stop = gr.Button("Save and stop", visible=bool(trainings.names))
        look = gr.Button("Look again")
    said = gr.HTML(status())
    shown = gr.HTML(elem_id="ldm-run")
    seen = gr.State("")
    quiet = {"show_progress": "hidden", "api_visibility": "private"}

    def look_at(name: str) -> Seen:
        """Show a run as it is now."""
        return run_view(studio, name)

    def acting(act: Callable[[str], str]) -> Callable[[str], tuple[str, str, str]]:
        """Make of an action on a run what a button does: act, and show the run again, or the error."""

        def done(name: str) -> tuple[str, str, str]:
            """Act on a run, and return words and the view of it."""
            try:
                words = status(act(name))
            except (OpenLdmError, OSError) as error:
                words = status(str(error), wrong=True)
            return words, *run_view(studio, name)

        return done

    def look_if_new(name: str, is_live: bool, before: str) -> object:
        """Show a run again where that is wanted and there is something new of it, its end included."""
        return run_view(studio, name) if is_live and is_new(studio, name, before) else (gr.skip(), gr.skip())

    run.change(look_at, run, [shown, seen], **quiet)
    look.click(look_at, run, [shown, seen], **quiet)
    start.click(acting(trainings.start), run, [said, shown, seen], **quiet)
    stop.click(acting(trainings.stop), run, [said, shown, seen], **quiet)
    gr.Timer(_EVERY_SECONDS).tick(look_if_new, [run, live, seen], [shown, seen], **quiet)
    studio.on_load(look_at, run, [shown, seen])


def run_view(studio: Studio, name: str) -> Seen:
    """Return a run's HTML, or why there is none, and what tells that there is something new (`Trainings.sign`)."""
    try:
        path = studio.models.path(name)
        sign, history = studio.trainings.sign(path), studio.trainings.history_of(path)
        return str(run_html(history, is_running=studio.trainings.trains(path))), sign
    except (OpenLdmError, OSError) as error:
        words = error.one_line() if isinstance(error, OpenLdmError) else str(error)
        return str(Markup('<p class="ldm-wrong">{}</p>').format(words)), ""


def is_new(studio: Studio, name: str, before: str) -> bool:
    """Return whether a run has changed since it was shown, here or on any machine that shares its folder."""
    try:
        return name in studio.models.paths and studio.trainings.sign(studio.models.path(name)) != before
    except OSError:
        return False  # the folder is being changed: at the next tick
