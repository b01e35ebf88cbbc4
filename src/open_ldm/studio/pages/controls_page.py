"""The page Controls: one seed, one control swept along a row, several models beneath one another."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from markupsafe import Markup

from open_ldm.core.config import validate
from open_ldm.core.errors import OpenLdmError
from open_ldm.studio.limits import LIMITS
from open_ldm.studio.markup import note, picture, row, status
from open_ldm.studio.models import ModelFacts
from open_ldm.studio.pages.base import QUIET, Studio
from open_ldm.studio.pages.play_page import example_prompt
from open_ldm.studio.play import MOST_SEED, PlayRequest
from open_ldm.studio.sweep import SweepRow, sweep
from open_ldm.studio.typed import SEPARATED, typed, values_in
from open_ldm.studio.widgets import widgets_of


def build(studio: Studio) -> None:
    """Build the page."""
    gr, first = studio.gr, studio.playable[0]
    names = [facts.name for facts in studio.playable]
    usual = usual_values(studio.playable)
    options = list(usual)
    if not options:
        gr.HTML(str(note("None of these models was trained with a control.")))
        return
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            which = studio.remember("controls.models", gr.CheckboxGroup(names, value=names[:2], label="Models"))
            shows = studio.remember("controls.shows", _shows(gr, first))
            with gr.Row():
                control = studio.remember("controls.control", gr.Dropdown(options, value=options[0], label="Control"))
                seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=MOST_SEED)
            studio.remember("controls.seed", seed)
            values = gr.Textbox(typed(usual[options[0]]), label="Values", info=SEPARATED, max_length=LIMITS.text)
            studio.remember("controls.values", values)
        with gr.Column(scale=5, min_width=300):
            start, cancel = studio.button_pair("Sweep")
            said = gr.HTML(status())
            found = gr.HTML()
    control.input(
        lambda chosen: typed(usual.get(chosen, ())), control, values, api_visibility="private", show_progress="hidden"
    )
    handler = _sweeping(studio)
    event = start.click(handler, [which, shows, control, seed, values], [said, found], **QUIET)
    studio.cancels(cancel, event, said)


def usual_values(playable: Sequence[ModelFacts]) -> dict[str, tuple[str, ...]]:
    """Return the values worth comparing of every control that any of the models has."""
    usual: dict[str, tuple[str, ...]] = {}
    for facts in playable:
        for widget in widgets_of(facts):
            usual.setdefault(widget.option, widget.sweep)
    return usual


def rows_html(rows: Sequence[SweepRow]) -> Markup:
    """All rows: pictures, difference maps, and what changed."""
    parts = []
    for one in rows:
        cells = []
        for cell in one.cells:
            content = picture(cell.png, f"{one.model}, {cell.value}")
            if cell.difference is not None:
                content += picture(cell.difference, f"where it differs from {one.cells[0].value}", kind="difference")
            words = Markup("<strong>{}</strong>").format(cell.value)
            if cell.content is not None:
                kind = "ldm-wrong" if cell.changed else "ldm-kept"
                words += Markup('<br><span class="{}">{}</span><br>detail differs by {:.1f} %').format(
                    kind, cell.content, cell.detail
                )
            cells.append(Markup('<figure class="ldm-figure">{}<figcaption>{}</figcaption></figure>').format(content, words))
        changed = sum(cell.changed for cell in one.cells)
        title = f"{one.model}: content changes in {changed} of {len(one.cells) - 1}" if "rules" in one.how else one.model
        parts.append(row(title, cells))
    ways = {one.how: [row.model for row in rows if row.how == one.how] for one in rows}
    said = [how if len(ways) == 1 else f"{', '.join(models)}: {how}" for how, models in ways.items()]
    return Markup().join([*parts, note(f"Compared with the first picture of the row; {'; '.join(said)}.")])


def _shows(gr: Any, facts: ModelFacts) -> Any:
    if facts.semantic == "class":
        names = list(facts.known.facts.class_names)
        return gr.Dropdown(names, value=names[0], label="Class")
    prompt = untold_prompt(facts)
    return gr.Textbox(prompt, label="Prompt", info="best one that leaves open what could change", max_length=LIMITS.text)


def untold_prompt(facts: ModelFacts) -> str:
    """Return a caption that does not tell the colour, where captions may leave it out; else any that the model knows."""
    untold = getattr(facts.recipe.data.source, "untold", ())
    return "a large circle on the left" if "colour" in untold else example_prompt(facts)


def _sweeping(studio: Studio) -> Any:
    by_name = {facts.name: facts for facts in studio.playable}

    async def sweep_controls(
        which: list[str], shows: str, control: str, seed: float | None, values: str
    ) -> AsyncIterator[tuple[str, Any]]:
        """Sample the row of every model."""
        chosen = [name for name in which if name in by_name]
        if not chosen:
            yield status("choose a model", wrong=True), studio.gr.skip()
            return
        key = {"text": "prompt", "class": "label"}.get(by_name[chosen[0]].semantic)
        content = {"model": chosen[0], "seed": int(seed or 0), **({key: shows} if key else {})}
        try:
            request, listed = validate(PlayRequest, content, source="the form"), values_in(str(values))
        except OpenLdmError as error:
            yield status(error.one_line(), wrong=True), studio.gr.skip()
            return

        def work(job: Any) -> list[SweepRow]:
            return sweep(studio.models, chosen, request, control, listed, job)

        async for shown in studio.run(work, rows_html, studio.gr.skip):
            yield shown

    return sweep_controls
