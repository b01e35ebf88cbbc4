"""The page Compare: what differs between the recipes, the same prompts and seeds from every run, and a blind vote."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from open_ldm.core.config import validate
from open_ldm.core.errors import OpenLdmError
from open_ldm.studio.compare import (
    Compared,
    CompareRequest,
    Pair,
    Vote,
    compare,
    differences,
    pairs_of,
    tally,
    voted,
    votes_csv,
)
from open_ldm.studio.limits import LIMITS
from open_ldm.studio.markup import figure, gallery, note, picture, row, status, table
from open_ldm.studio.models import ModelFacts
from open_ldm.studio.pages.base import QUIET, Studio
from open_ldm.studio.pages.controls_page import untold_prompt
from open_ldm.studio.play import MOST_SEED

_TEXT = 4000


def build(studio: Studio) -> None:
    """Build the page."""
    gr = studio.gr
    names = [facts.name for facts in studio.playable]
    gr.HTML(str(differences_html(studio.playable)))
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            which = studio.remember("compare.models", gr.CheckboxGroup(names, value=names[:2], label="Runs"))
            prompts = gr.Textbox(
                "\n".join(usual_prompts(studio.playable[0])),
                label="Prompts or classes",
                info="one a line",
                lines=4,
                max_length=_TEXT,
            )
            studio.remember("compare.prompts", prompts)
            seed = gr.Number(0, label="Seed", precision=0, minimum=0, maximum=MOST_SEED)
            studio.remember("compare.seed", seed)
        with gr.Column(scale=5, min_width=300):
            start, cancel = studio.button_pair("Sample each")
            said = gr.HTML(status())
            found = gr.HTML()
    kept, votes = gr.State(None), gr.State(())
    event = start.click(_comparing(studio), [which, prompts, seed], [said, found, kept, votes], **QUIET)
    studio.cancels(cancel, event, said)
    with gr.Accordion("Blind vote between two of them", open=False, visible=len(names) > 1):
        with gr.Row():
            first = gr.Dropdown(names, value=names[0], label="One")
            second = gr.Dropdown(names, value=names[-1], label="Other")
            begin = gr.Button("Begin the vote")
        ballot = gr.HTML()
        with gr.Row():
            buttons = {choice: gr.Button(text) for choice, text in _CHOICES.items()}
    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    begin.click(
        lambda compared, one, other: ((), ballot_html(compared, one, other, ())),
        [kept, first, second],
        [votes, ballot],
        **quiet,
    )
    for choice, button in buttons.items():
        button.click(_voting(choice), [kept, first, second, votes], [votes, ballot], **quiet)


_CHOICES: Mapping[str, str] = {"left": "Left is better", "equal": "Neither", "right": "Right is better"}


def usual_prompts(facts: ModelFacts) -> list[str]:
    """Return what is compared where nothing is said: a few classes, or captions."""
    if facts.semantic == "class":
        return list(facts.known.facts.class_names[:4])
    words = facts.known.facts.words
    kinds = [kind for kind in ("circle", "square", "triangle", "cross") if kind in words]
    return [f"a large {kind} on the left" for kind in kinds] if kinds else [untold_prompt(facts)]


def differences_html(playable: Sequence[ModelFacts]) -> Markup:
    """A table of the settings in which the recipes differ."""
    rows = differences(playable)
    if len(playable) < 2:
        return note("Name several runs on the command line to compare them.")
    if not rows:
        return note("The recipes are equal but for their names.")
    head = ["what differs", *(facts.name for facts in playable)]
    return table(head, [[row.setting, *(value[:200] for value in row.values)] for row in rows])


def compared_html(found: Compared) -> Markup:
    """A row of pictures for each model, the prompts below them."""
    parts = []
    for one in found.models:
        if one.problem:
            parts.append(Markup("<h2>{}</h2>").format(one.model) + note(one.problem))
            continue
        both = zip(one.pngs, found.request.prompts, strict=True)
        parts.append(row(one.model, [figure(picture(png, f"{one.model}: {prompt}"), prompt) for png, prompt in both]))
    return Markup().join(parts)


def ballot_html(found: Compared | None, first: str, second: str, votes: Sequence[Vote]) -> str:
    """The next pair, or what the votes say once there are no more."""
    try:
        if found is None:
            return status("compare first", wrong=True)
        pairs = pairs_of(found, first, second)
    except OpenLdmError as error:
        return status(error.one_line(), wrong=True)
    if len(votes) < len(pairs):
        pair = pairs[len(votes)]
        return str(note(f"{len(votes) + 1} of {len(pairs)}: {pair.prompt}") + _pair_html(pair))
    counted = ", ".join(f"{name} {count}" for name, count in tally(votes).items())
    link = Markup('<a href="data:text/csv;charset=utf-8,{}" download="votes.csv">votes.csv</a>').format(quote(votes_csv(votes)))
    return str(Markup('<p class="ldm-note" role="status">{}; {}</p>').format(counted, link))


def _pair_html(pair: Pair) -> Markup:
    sides = (("left", pair.left_png), ("right", pair.right_png))
    return gallery([figure(picture(png, f"the picture on the {side}"), side) for side, png in sides])


def _voting(choice: str) -> Any:
    def vote(found: Compared | None, first: str, second: str, votes: Sequence[Vote]) -> tuple[Sequence[Vote], str]:
        """Take a vote, and show the next pair."""
        try:
            pairs = pairs_of(found, first, second) if found is not None else []
            if len(votes) < len(pairs):
                votes = (*votes, voted(pairs[len(votes)], choice))
        except OpenLdmError as error:
            return votes, status(error.one_line(), wrong=True)
        return votes, ballot_html(found, first, second, votes)

    return vote


def _comparing(studio: Studio) -> Any:
    async def compare_runs(which: list[str], prompts: str, seed: float | None) -> AsyncIterator[tuple[Any, ...]]:
        """Sample every prompt from every run."""
        skip = studio.gr.skip
        listed = [line.strip()[: LIMITS.text] for line in str(prompts)[:_TEXT].splitlines() if line.strip()]
        try:
            content = {"models": list(which or ()), "prompts": listed, "seed": int(seed or 0)}
            request = validate(CompareRequest, content, source="the form")
        except OpenLdmError as error:
            yield status(error.one_line(), wrong=True), skip(), skip(), skip()
            return
        results: list[Compared] = []

        def show(found: Compared) -> Markup:
            results.append(found)
            return compared_html(found)

        async for words, html in studio.run(lambda job: compare(studio.models, request, job), show, skip):
            yield (words, html, *((results[0], ()) if results else (skip(), skip())))

    return compare_runs
