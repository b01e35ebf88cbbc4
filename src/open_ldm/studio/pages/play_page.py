"""The page Play: a prompt or class, guidance, every control as a widget, seeds, and a start picture."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from open_ldm.checkpoints.names import run_folder_of
from open_ldm.core.config import validate
from open_ldm.core.errors import OpenLdmError
from open_ldm.core.files import read_json_object
from open_ldm.run_folder.history import lookup
from open_ldm.sampling.generate import SolverName
from open_ldm.studio.limits import LIMITS
from open_ldm.studio.markup import pictures, status
from open_ldm.studio.models import ModelFacts
from open_ldm.studio.pages.base import QUIET, Studio
from open_ldm.studio.play import MOST_SEED, PlayRequest, play
from open_ldm.studio.widgets import OPEN, Check, Choice, Part, Slider, Widget, widgets_of

FILE_INPUT = """<label class="ldm-file">Start from a picture of your own (optional)
<input type="file" accept="image/*,.npy,.tif,.tiff" data-ldm-file="ldm-start"></label>"""
_MOST_SCALE_SHOWN = 15


@dataclass(frozen=True)
class ModelForm:
    """The widgets of one model: what is shown, guidance, steps, solver, and its controls."""

    facts: ModelFacts
    group: Any
    shows: Any
    settings: tuple[Any, ...]
    widgets: tuple[Widget, ...]
    controls: tuple[tuple[Any, ...], ...]

    @property
    def inputs(self) -> list[Any]:
        """All components, in the order that `asked` reads."""
        return [self.shows, *self.settings, *(one for parts in self.controls for one in parts)]

    def asked(self, values: Sequence[Any]) -> dict[str, Any]:
        """Return the values of `inputs` as settings of a PlayRequest."""
        shows, semantic, control, steps, solver, *rest = values
        controls: dict[str, str | None] = {}
        for widget in self.widgets:
            mine, rest = rest[: len(widget.parts)], rest[len(widget.parts) :]
            controls[widget.option] = widget.text(mine)
        kind = {"text": "prompt", "class": "label"}.get(self.facts.semantic)
        scales = {"semantic_scale": semantic, "control_scale": control}
        return {**({kind: shows} if kind else {}), **scales, "steps": int(steps or 1), "solver": solver, "controls": controls}


def build(studio: Studio) -> None:
    """Build the page."""
    gr = studio.gr
    names = [facts.name for facts in studio.playable]
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=320):
            chosen = gr.Dropdown(names, value=names[0], label="Model", elem_id="ldm-model", visible=len(names) > 1)
            model = studio.remember("model", chosen)
            forms = [_model_form(studio, facts, shown=facts.name == names[0]) for facts in studio.playable]
            with gr.Row():
                seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=MOST_SEED, elem_id="ldm-seed")
                lock = gr.Checkbox(True, label="Lock the seed", info="unlocked, every click takes a new one")
            count = gr.Slider(1, LIMITS.pictures, value=4, step=1, label="Pictures", elem_id="ldm-count")
            for name, component in (("seed", seed), ("lock", lock), ("count", count)):
                studio.remember(name, component)
            with gr.Accordion("Start from a picture", open=False):
                gr.HTML(FILE_INPUT)
                start = gr.Textbox(visible="hidden", elem_id="ldm-start", label="start picture")
                strength = studio.remember(
                    "strength", gr.Slider(0.02, 1, value=0.6, step=0.02, label="Strength: the time it is noised to")
                )
        with gr.Column(scale=3, min_width=320):
            sample, cancel = studio.button_pair("Sample")
            said = gr.HTML(status(), elem_id="ldm-play-status")
            found = gr.HTML(elem_id="ldm-play-result")
            with gr.Row(visible=len(names) > 1):
                other = gr.Dropdown(names, value=names[-1], label="Other run")
                again = gr.Button("Same seed, other run")
            beside = gr.HTML(elem_id="ldm-play-other")
    model.change(
        lambda chosen: [gr.update(visible=form.facts.name == chosen) for form in forms],
        model,
        [form.group for form in forms],
        api_visibility="private",
        show_progress="hidden",
    )
    inputs = [seed, count, start, strength, *(one for form in forms for one in form.inputs)]
    first = sample.click(_next_seed, [seed, lock], seed, api_visibility="private", show_progress="hidden")
    prompts = [form.shows.submit for form in forms if form.facts.semantic == "text"]
    events = [first.then(_sampling(studio, forms), [model, model, *inputs], [said, found], **QUIET)]
    events += [enter(_sampling(studio, forms), [model, model, *inputs], [said, found], **QUIET) for enter in prompts]
    events.append(again.click(_sampling(studio, forms), [model, other, *inputs], [said, beside], **QUIET))
    studio.cancels(cancel, events, said)


def _next_seed(seed: float | None, lock: bool) -> int:
    return int(seed or 0) if lock else secrets.randbelow(2**31)


def _sampling(studio: Studio, forms: Sequence[ModelForm]) -> Any:
    """Return the handler that samples from a model what the form of a model asks for; a control it lacks is left out."""
    by_name = {form.facts.name: form for form in forms}
    spans: dict[str, slice] = {}
    at = 0
    for form in forms:
        spans[form.facts.name] = slice(at, at + len(form.inputs))
        at += len(form.inputs)

    async def sample(chosen: str, model: str, *values: Any) -> AsyncIterator[tuple[str, Any]]:
        """Sample, and show how far it is."""
        seed, count, start, strength, *rest = values
        if chosen not in by_name or model not in by_name:
            yield status("there is no such model", wrong=True), studio.gr.skip()
            return
        asked = by_name[chosen].asked(rest[spans[chosen]])
        known = {widget.option for widget in by_name[model].widgets}
        asked["controls"] = {name: value for name, value in asked["controls"].items() if name in known}
        content = {**asked, "model": model, "seed": int(seed or 0), "count": int(count or 1)}
        if start:
            content |= {"start": start, "strength": strength}
        try:
            request = validate(PlayRequest, content, source="the form")
        except OpenLdmError as error:
            yield status(error.one_line(), wrong=True), studio.gr.skip()
            return
        async for shown in studio.run(lambda job: play(studio.models, request, job), pictures, studio.gr.skip):
            yield shown

    return sample


def _model_form(studio: Studio, facts: ModelFacts, shown: bool) -> ModelForm:
    gr, widgets = studio.gr, widgets_of(facts)
    key = f"{facts.name}."
    sampling = facts.recipe.sampling
    with gr.Column(visible=shown) as group:
        shows = studio.remember(f"{key}shows", _shows(gr, facts))
        guidance = sampling.guidance
        with gr.Row():
            scales = [
                gr.Slider(0, max(_MOST_SCALE_SHOWN, value), value=value, step=0.1, label=label, min_width=140)
                for label, value in (
                    ("Semantic guidance", guidance.semantic_scale),
                    ("Control guidance", guidance.control_scale),
                )
            ]
        with gr.Row():
            steps = gr.Slider(1, LIMITS.steps, value=min(sampling.steps, LIMITS.steps), step=1, label="Steps", min_width=140)
            solver = gr.Dropdown(list(get_args(SolverName)), value=sampling.solver, label="Solver", min_width=140)
        controls = []
        for widget in widgets:
            with gr.Group():
                controls.append(tuple(component_of(gr, part) for part in widget.parts))
        settings = (*scales, steps, solver)
        named = zip(("semantic_scale", "control_scale", "steps", "solver"), settings, strict=True)
        for name, component in named:
            studio.remember(f"{key}{name}", component)
        for widget, parts in zip(widgets, controls, strict=True):
            for number, component in enumerate(parts):
                studio.remember(f"{key}{widget.option}.{number}", component)
    return ModelForm(facts, group, shows, settings, widgets, tuple(controls))


def _shows(gr: Any, facts: ModelFacts) -> Any:
    """The widget for what a picture is to show."""
    match facts.semantic:
        case "text":
            prompt = example_prompt(facts)
            return gr.Textbox(prompt, label="Prompt", max_length=LIMITS.text, elem_classes="ldm-prompt")
        case "class":
            names = list(facts.known.facts.class_names)
            return gr.Dropdown(names, value=names[0], label="Class")
        case _:
            return gr.Textbox("", label="This model takes no prompt", interactive=False)


def example_prompt(facts: ModelFacts) -> str:
    """Return a caption that the model understands: one of its data where it is known, else nothing."""
    given = lookup(read_json_object(run_folder_of(facts.path) / "data.json"), "survey.example_captions")
    examples = [str(one) for one in given if isinstance(one, str)] if isinstance(given, list) else []
    if examples:
        return examples[0][: LIMITS.text]
    return "a large circle on the left" if facts.recipe.data.source.kind == "shapes" else ""


def component_of(gr: Any, part: Part) -> Any:
    """Return the component of Gradio for one part of a control."""
    match part:
        case Slider():
            return gr.Slider(part.low, part.high, value=part.value, step=part.step, label=part.label)
        case Choice():
            return gr.Dropdown([(one or OPEN, one) for one in part.choices], value=part.value, label=part.label)
        case Check():
            return gr.Checkbox(part.value, label=part.label)
        case _:
            return gr.Textbox(part.value, label=part.label, info=part.hint, max_length=LIMITS.text)
