"""The page Data: pictures as the trainer sees them, bad files, and the training pictures nearest to a sample."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from markupsafe import Markup

from open_ldm.core.config import validate
from open_ldm.core.errors import OpenLdmError
from open_ldm.studio.limits import LIMITS
from open_ldm.studio.markup import facts as facts_html
from open_ldm.studio.markup import figure, gallery, note, picture, row, status, table
from open_ldm.studio.pages.base import QUIET, Studio
from open_ldm.studio.pages.play_page import example_prompt
from open_ldm.studio.play import MOST_SEED, PlayRequest
from open_ldm.studio.training_pictures import Nearest, SeenPicture, TrainingPictures, bad_files

_PAGE = 6
_NEIGHBOURS = 5
_MOST_BAD = 50
_EXACT_DB = 80.0
"""Above it no 8-bit pixel differs."""


def build(studio: Studio) -> None:
    """Build the page."""
    gr, training = studio.gr, TrainingPictures(studio.models)
    names = [facts.name for facts in studio.playable]
    examples = {facts.name: _usual(facts) for facts in studio.playable}
    with gr.Row():
        run = studio.remember("data.run", gr.Dropdown(names, value=names[0], label="Run"))
        position = studio.remember(
            "data.position", gr.Number(0, label="Position in the sample order", precision=0, minimum=0, maximum=MOST_SEED)
        )
    show, cancel = studio.button_pair("Show pictures")
    said = gr.HTML(status())
    found = gr.HTML()
    with gr.Row():
        shows = gr.Textbox(examples[names[0]], label="Prompt or class", max_length=LIMITS.text)
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=MOST_SEED)
        near = gr.Button("Nearest training pictures")
    neighbours = gr.HTML()
    bad = gr.HTML()
    run.change(lambda name: examples.get(name, ""), run, shows, show_progress="hidden", api_visibility="private")
    event = show.click(_showing(studio, training), [run, position], [said, found], **QUIET)
    show.click(lambda name: _bad_html(studio, name), run, bad, show_progress="hidden", api_visibility="private")
    other = near.click(_looking(studio, training), [run, shows, seed], [said, neighbours], **QUIET)
    studio.cancels(cancel, [event, other], said)


def seen_html(found: Sequence[SeenPicture]) -> Markup:
    """Each view: the stored picture with its box, the view, its reconstruction, and how it was made."""
    cards = []
    for one in found:
        pictures = [
            figure(picture(one.whole, f"{one.id} as stored, with the box that is cut"), "stored"),
            figure(picture(one.view, f"{one.id} as the trainer sees it"), "view"),
            figure(
                picture(one.reconstruction, f"{one.id} through the autoencoder"), f"reconstruction ({_quality(one.psnr_db)})"
            ),
        ]
        cards.append(
            Markup('<div class="ldm-card"><h2>{}</h2>{}{}</div>').format(one.id, gallery(pictures), facts_html(one.facts))
        )
    return Markup().join(cards)


def nearest_html(found: Nearest) -> Markup:
    """The sample, and the training pictures nearest to it."""
    cells = [figure(picture(found.sample, "the sample"), "the sample")]
    cells += [
        figure(picture(one.png, f"training picture {one.id}"), f"{one.id}, {one.distance:.3f} away") for one in found.neighbours
    ]
    words = "Root mean square of pixels averaged to 16 x 16 (0: equal, 1: black to white), among the first "
    words += f"{found.looked_at:,} training pictures."
    return row("Nearest training pictures", cells) + note(words)


def bad_html(bad: Sequence[tuple[str, str]]) -> Markup:
    """Pictures that could not be used."""
    if not bad:
        return note("No bad pictures were found.")
    return Markup("<h2>Bad pictures</h2>") + table(["reason", "picture"], bad[:_MOST_BAD])


def _quality(psnr_db: float) -> str:
    return "exact" if psnr_db > _EXACT_DB else f"{psnr_db:.1f} dB"


def _bad_html(studio: Studio, name: str) -> str:
    try:
        return str(bad_html(bad_files(studio.models.path(name))))
    except OpenLdmError as error:
        return status(error.one_line(), wrong=True)


def _usual(facts: Any) -> str:
    return str(facts.known.facts.class_names[0]) if facts.semantic == "class" else example_prompt(facts)


def _showing(studio: Studio, training: TrainingPictures) -> Any:
    async def show_pictures(name: str, position: float | None) -> AsyncIterator[tuple[str, Any]]:
        """Read the next views of the sample order."""
        begin = min(max(0, int(position or 0)), MOST_SEED)
        async for shown in studio.run(lambda job: training.seen(name, begin, _PAGE, job), seen_html, studio.gr.skip):
            yield shown

    return show_pictures


def _looking(studio: Studio, training: TrainingPictures) -> Any:
    kinds = {facts.name: {"text": "prompt", "class": "label"}.get(facts.semantic) for facts in studio.playable}

    async def find_nearest(name: str, shows: str, seed: float | None) -> AsyncIterator[tuple[str, Any]]:
        """Sample, and look for what it may be a copy of."""
        key = kinds.get(name)
        try:
            content = {"model": name, "seed": int(seed or 0), **({key: shows} if key else {})}
            request = validate(PlayRequest, content, source="the form")
        except OpenLdmError as error:
            yield status(error.one_line(), wrong=True), studio.gr.skip()
            return
        async for shown in studio.run(lambda job: training.nearest(request, _NEIGHBOURS, job), nearest_html, studio.gr.skip):
            yield shown

    return find_nearest
