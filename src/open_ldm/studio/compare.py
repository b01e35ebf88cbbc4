"""Compare: what differs between the recipes, runs x prompts at equal seeds, and a blind vote between two of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from pydantic import Field

from open_ldm.commands.differing import Differing, differing_settings
from open_ldm.commands.sample import requests_from, sample_images
from open_ldm.core import seeds
from open_ldm.core.config import Config
from open_ldm.core.display import as_shown
from open_ldm.core.errors import ConfigError
from open_ldm.core.pictures import png_bytes, to_picture, to_pixels
from open_ldm.sampling.requests import SampleRequest
from open_ldm.studio.device_queue import Job
from open_ldm.studio.limits import LIMITS
from open_ldm.studio.models import ModelFacts, Models
from open_ldm.studio.play import MOST_SEED

_VOTES = ("left", "right", "equal")


class CompareRequest(Config):
    """Which models, what they show, and from which seed.

    Attributes:
        models: Names, one or more.
        prompts: Captions or classes, one a row.
        seed: Of every picture.
    """

    models: tuple[str, ...] = Field(min_length=1, max_length=8)
    prompts: tuple[str, ...] = Field(min_length=1, max_length=LIMITS.pictures)
    seed: int = Field(default=0, ge=0, le=MOST_SEED)


@dataclass(frozen=True)
class ComparedModel:
    """One model's pictures as PNG, one for each prompt; `problem`: why there are none."""

    model: str
    pngs: tuple[bytes, ...]
    problem: str = ""


@dataclass(frozen=True)
class Compared:
    """What was sampled for a request."""

    request: CompareRequest
    models: tuple[ComparedModel, ...]


def differences(models: Sequence[ModelFacts]) -> list[Differing]:
    """Return the settings in which the recipes differ, with the value of each run."""
    return differing_settings([one.recipe.model_dump(mode="json") for one in models])


def compare(models: Models, request: CompareRequest, job: Job[Compared]) -> Compared:
    """Sample every prompt from every model at the same seed; a model that cannot says why, and the others go on."""
    found = []
    steps = [models.load(name).recipe.sampling.steps for name in request.models]
    job.total = sum(steps)
    for number, name in enumerate(request.models):
        before = sum(steps[:number])
        run = models.load(name)
        kind = run.recipe.conditioning.semantic.kind
        try:
            if kind == "none":
                asked = [SampleRequest(request.seed)] * len(request.prompts)
            else:
                prompts, classes = ((), request.prompts) if kind == "class" else (request.prompts, ())
                asked = requests_from(run, prompts, classes, 1, request.seed, {})
            settings = run.recipe.sampling.model_copy(update={"batch_size": LIMITS.pictures})
            images = sample_images(run, asked, settings, partial(_tick, job, before))
            shown = as_shown(to_pixels(images), run.recipe.data.display)
            found.append(ComparedModel(name, tuple(png_bytes(to_picture(one)) for one in shown)))
        except ConfigError as error:
            found.append(ComparedModel(name, (), error.one_line()))
    return Compared(request, tuple(found))


@dataclass(frozen=True)
class Pair:
    """One question of a blind vote: two pictures, of which nobody sees the models."""

    prompt: str
    seed: int
    left: str
    right: str
    left_png: bytes
    right_png: bytes


def pairs_of(found: Compared, first: str, second: str) -> list[Pair]:
    """Return a pair for each prompt, with the sides drawn by the seed and the prompt, so that they are not told by habit.

    Raises:
        ConfigError: One of the models has no pictures, or they are the same.
    """
    by_name = {one.model: one for one in found.models if one.pngs}
    if first == second or first not in by_name or second not in by_name:
        raise ConfigError(f"{first} and {second} cannot be voted on", needed="two different models with pictures")
    pairs = []
    for row, prompt in enumerate(found.request.prompts):
        names = (first, second) if seeds.key(found.request.seed, f"side {prompt}", row) % 2 else (second, first)
        left, right = (by_name[name].pngs[row] for name in names)
        pairs.append(Pair(prompt, found.request.seed, *names, left, right))
    return pairs


@dataclass(frozen=True)
class Vote:
    """What was preferred in a pair: left, right or equal."""

    pair: Pair
    choice: str

    @property
    def preferred(self) -> str:
        """The model; '' for none."""
        return {"left": self.pair.left, "right": self.pair.right}.get(self.choice, "")


def voted(pair: Pair, choice: str) -> Vote:
    """Return a vote. Raises ConfigError for a choice that there is not."""
    if choice not in _VOTES:
        raise ConfigError(f"{choice!r} is no vote", needed="left, right or equal")
    return Vote(pair, choice)


def votes_csv(votes: Sequence[Vote]) -> str:
    """Return votes as CSV: prompt, seed, the model on each side, and the one that was preferred.

    A cell that a spreadsheet would run as a formula is quoted by an apostrophe.
    """
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(["prompt", "seed", "left", "right", "preferred"])
    for vote in votes:
        pair = vote.pair
        writer.writerow(
            [_safe(cell) for cell in (pair.prompt, str(pair.seed), pair.left, pair.right, vote.preferred or "equal")]
        )
    return written.getvalue()


def tally(votes: Sequence[Vote]) -> Mapping[str, int]:
    """Count the votes of each model, and those for neither."""
    counts: dict[str, int] = {}
    for vote in votes:
        counts.setdefault(vote.pair.left, 0)
        counts.setdefault(vote.pair.right, 0)
        name = vote.preferred or "equal"
        counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items()))


def _tick(job: Job[Compared], before: int, done: int) -> None:
    job.tick(before + done)


def _safe(cell: str) -> str:
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t") else cell
