"""The page Denoise: a scrubber over the steps, with gates and guidance drawn under it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from markupsafe import Markup

from open_ldm.core.config import validate
from open_ldm.core.errors import ConfigError, OpenLdmError, cut
from open_ldm.studio.denoise import Denoised, denoise
from open_ldm.studio.limits import LIMITS
from open_ldm.studio.markup import figure, picture, status
from open_ldm.studio.models import ModelFacts
from open_ldm.studio.pages.base import QUIET, Studio
from open_ldm.studio.pages.play_page import example_prompt
from open_ldm.studio.play import MOST_SEED, PlayRequest
from open_ldm.studio.run_view import plot_html
from open_ldm.studio.typed import SEPARATED, typed, values_in
from open_ldm.studio.widgets import widgets_of


def build(studio: Studio) -> None:
    """Build the page."""
    gr = studio.gr
    names = [facts.name for facts in studio.playable]
    first = studio.playable[-1]
    usual = {
        facts.name: str(facts.known.facts.class_names[0]) if facts.semantic == "class" else example_prompt(facts)
        for facts in studio.playable
    }
    hints = {facts.name: controls_hint(facts) for facts in studio.playable}
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            model = studio.remember("denoise.model", gr.Dropdown(names, value=first.name, label="Model"))
            shows = gr.Textbox(usual[first.name], label="Prompt or class", max_length=LIMITS.text)
            with gr.Row():
                seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=MOST_SEED)
                steps = gr.Slider(1, LIMITS.steps, value=first.recipe.sampling.steps, step=1, label="Steps")
            controls = gr.Textbox("", label="Controls", info=hints[first.name], max_length=LIMITS.text)
            for name, component in (("shows", shows), ("seed", seed), ("steps", steps), ("controls", controls)):
                studio.remember(f"denoise.{name}", component)
        with gr.Column(scale=4, min_width=300):
            start, cancel = studio.button_pair("Show the steps")
            said = gr.HTML(status())
            found = gr.HTML()
    model.input(
        lambda name: (usual.get(name, ""), gr.update(info=hints.get(name, ""))),
        model,
        [shows, controls],
        show_progress="hidden",
        api_visibility="private",
    )
    event = start.click(_denoising(studio), [model, shows, seed, steps, controls], [said, found], **QUIET)
    studio.cancels(cancel, event, said)


def controls_hint(facts: ModelFacts) -> str:
    """Say how controls are written, with a value for each of a model's that has values to compare."""
    pairs = [f"{one.option}={one.sweep[-1]}" for one in widgets_of(facts) if one.sweep]
    return f"{SEPARATED}, such as {typed(pairs)}" if pairs else "this model has none"


def denoised_html(found: Denoised) -> Markup:
    """The frames under one scrubber, which the keyboard moves too (address.js), and the curves."""
    frames = Markup().join(
        Markup('<div class="ldm-frame"{}>{}</div>').format(
            Markup(" hidden") if number < len(found.frames) - 1 else Markup(),
            figure(picture(one.png, f"x_0 as estimated in step {one.step}", kind="large"), f"step {one.step}, t = {one.t:.3f}"),
        )
        for number, one in enumerate(found.frames)
    )
    last = len(found.frames) - 1
    scrubber = Markup(
        '<label class="ldm-scrub">Step<input type="range" min="0" max="{}" value="{}" step="1" data-ldm-scrub="1"></label>'
    ).format(last, last)
    final = figure(picture(found.final, "the finished picture", kind="large"), "finished")
    curves = Markup().join(plot_html(plot) for plot in found.plots)
    return Markup('<div class="ldm-frames"><div class="ldm-gallery">{}{}</div>{}</div>{}').format(
        frames, final, scrubber, curves
    )


def controls_in(text: str) -> dict[str, str]:
    """Read NAME=VALUE pairs. Raises ConfigError for anything else among them, and for a control that is given twice."""
    found: dict[str, str] = {}
    for part in values_in(text):
        name, equals, value = part.partition("=")
        if not equals:
            raise ConfigError(f"{cut(repr(part))} is no control", needed=f"NAME=VALUE, {SEPARATED}")
        if name in found:
            raise ConfigError(f"{cut(name)} is given twice", needed="each control once")
        found[name] = value
    return found


def _denoising(studio: Studio) -> Any:
    by_name = {facts.name: facts for facts in studio.playable}

    async def denoise_steps(
        name: str, shows: str, seed: float | None, steps: float, controls: str
    ) -> AsyncIterator[tuple[str, Any]]:
        """Sample one picture, and keep every step."""
        facts = by_name.get(name)
        key = None if facts is None else {"text": "prompt", "class": "label"}.get(facts.semantic)
        known = [] if facts is None else [widget.option for widget in widgets_of(facts)]
        content = {"model": name, "seed": int(seed or 0), "steps": int(steps or 1), **({key: shows} if key else {})}
        try:
            request = validate(PlayRequest, {**content, "controls": controls_in(str(controls))}, source="the form")
        except OpenLdmError as error:
            yield status(f"{error.one_line()} (controls: {', '.join(known)})", wrong=True), studio.gr.skip()
            return
        async for shown in studio.run(lambda job: denoise(studio.models, request, job), denoised_html, studio.gr.skip):
            yield shown

    return denoise_steps
