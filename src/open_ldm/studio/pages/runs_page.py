"""The page Runs: live curves, samples and events; starting, stopping and going on."""

from __future__ import annotations

from collections.abc import Callable

from markupsafe import Markup

from open_ldm.core.errors import OpenLdmError
from open_ldm.studio.markup import status
from open_ldm.studio.pages.base import Studio
from open_ldm.studio.run_view import run_html

_EVERY_SECONDS = 5.0


def build(studio: Studio) -> None:
    """Build the page."""
    gr, trainings = studio.gr, studio.trainings
    names = studio.models.names
    may_start = bool(trainings.names)
    with gr.Row():
        run = studio.remember("run", gr.Dropdown(names, value=names[0], label="Run", scale=3))
        live = studio.remember("live", gr.Checkbox(True, label="Live", info="looks again every 5 seconds", scale=1))
    with gr.Row(visible=may_start):
        start = gr.Button("Start or go on", variant="primary")
        stop = gr.Button("Save and stop")
        look = gr.Button("Look again")
    said = gr.HTML(status())
    shown = gr.HTML(elem_id="ldm-run")
    quiet = {"show_progress": "hidden", "api_visibility": "private"}

    def look_at(name: str) -> str:
        """Show a run as it is now."""
        return run_view(studio, name)

    def acting(act: Callable[[str], str]) -> Callable[[str], tuple[str, str]]:
        def done(name: str) -> tuple[str, str]:
            try:
                words = status(act(name))
            except (OpenLdmError, OSError) as error:
                words = status(str(error), wrong=True)
            return words, run_view(studio, name)

        return done

    def look_if_live(name: str, is_live: bool) -> object:
        """Show a run again where that is wanted and it may have changed."""
        changes = is_live and name in studio.models.paths and trainings_state(studio, name)
        return run_view(studio, name) if changes else gr.skip()

    run.change(look_at, run, shown, **quiet)
    look.click(look_at, run, shown, **quiet)
    start.click(acting(trainings.start), run, [said, shown], **quiet)
    stop.click(acting(trainings.stop), run, [said, shown], **quiet)
    gr.Timer(_EVERY_SECONDS).tick(look_if_live, [run, live], shown, **quiet)
    studio.on_load(look_at, run, shown)


def run_view(studio: Studio, name: str) -> str:
    """Return a run's HTML, or why there is none."""
    try:
        path = studio.models.path(name)
        history = studio.trainings.history_of(path)
        return str(run_html(history, is_running=studio.trainings.trains(path)))
    except OpenLdmError as error:
        return str(Markup('<p class="ldm-wrong">{}</p>').format(error.one_line()))


def trainings_state(studio: Studio, name: str) -> bool:
    """Return whether a run is being trained by a process of this machine."""
    return studio.trainings.trains(studio.models.path(name))
