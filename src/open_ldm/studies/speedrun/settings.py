"""What a speedrun compares and how it measures."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from open_ldm.core.config import flattened
from open_ldm.core.errors import ConfigError
from open_ldm.core.overrides import last_given
from open_ldm.evaluation.bootstrap import BootstrapConfig
from open_ldm.evaluation.features.classifier_fit import FitConfig
from open_ldm.evaluation.own_features import FIT
from open_ldm.runs.autoencoder_format import require_format_by_name
from open_ldm.runs.editions import earlier_edition, note_on_edition
from open_ldm.runs.recipe import Recipe, load_recipe
from open_ldm.sampling.guidance import branches

_HELD_OUT = 0.1
METRICS = ("held_out_loss", "fid")
"""What has a level. Lower is better."""


@dataclass(frozen=True)
class Side:
    """One recipe: a packaged name, a YAML file or a run folder, with changes; `name` is that of its folder and its row."""

    name: str
    recipe: str
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Choice:
    """How much is trained and measured.

    Attributes:
        seeds: How many trainings of each recipe.
        first_seed: Of the first; tuning should have used others.
        points: How often each training is measured, evenly over its budget.
        pictures: Samples for the distance from held-out pictures, and as many of those at the most.
        held_out: Share of the data that is held out; None for that of the recipe, or a tenth.
        steps: Of the sampler; None for those of the recipe that sets the level.
        fit: How features are fitted on the data.
        bootstrap: How the intervals of values are found.
    """

    seeds: int = 3
    first_seed: int = 100
    points: int = 50
    pictures: int = 500
    held_out: float | None = None
    steps: int | None = None
    fit: FitConfig = field(default_factory=lambda: FIT)
    bootstrap: BootstrapConfig = field(default_factory=BootstrapConfig)


@dataclass(frozen=True)
class Training:
    """One training of a side."""

    side: Side
    seed: int
    run: Path
    recipe: Recipe
    command: tuple[str, ...]


def resolved(side: Side, choice: Choice, stats: str | None = None) -> Recipe:
    """Resolve the recipe of a side as it is trained here: nothing is shown or measured on the way, a part of the data held out.

    Args:
        side: The recipe.
        choice: Of the speedrun.
        stats: Latent statistics that all trainings share, as an override.

    Raises:
        ConfigError: A setting cannot be used, or the training is too short for so many points.
    """
    recipe = load_recipe(side.recipe, changes_of(side, choice, stats))
    require_format_by_name(recipe)
    return recipe


def changes_of(side: Side, choice: Choice, stats: str | None = None) -> list[str]:
    """Return the assignments with which the recipe of a side is trained; errors as `resolved`."""
    base = load_recipe(side.recipe, side.changes)
    every = base.training.samples // choice.points // base.training.batch_size * base.training.batch_size
    if every == 0 or base.stages:
        what = "has stages" if base.stages else f"trains on {base.training.samples:,} pictures"
        raise ConfigError(
            f"{side.recipe} {what}",
            needed=f"one training of at least {choice.points} updates, one for each point",
            fix="another recipe" if base.stages else "--points 10, say",
        )
    if base.data.holdout is not None and choice.held_out is not None:
        raise ConfigError(
            f"--held-out {choice.held_out:g} was given, and {side.recipe} holds a part out by data.holdout",
            needed="one of them",
            fix=f"leave --held-out out, or give data.holdout.share={choice.held_out:g}",
        )
    share = {"share": choice.held_out or _HELD_OUT}
    held_out = [] if base.data.holdout is not None else [f"data.holdout={json.dumps(share)}"]
    return [
        *side.changes,
        *held_out,
        *([stats] if stats else []),
        "training.preview_every_samples=0",
        "held_out=null",
        "evaluation=null",
        f"training.checkpoint_every_samples={every}",
        f"training.keep_checkpoints={base.training.samples // base.training.batch_size + 2}",  # all, also those of stops
    ]


def training_of(side: Side, seed: int, out: Path, choice: Choice, stats: str | None) -> Training:
    """Return one training of a side; its folder is in `out`."""
    name = folder_name(side)
    changes = last_given([*changes_of(side, choice, stats), f"training.seed={seed}", f"name={name}"])
    run = out / f"{name}-seed{seed}"
    command = ("ldm", "train", side.recipe, *changes, "--out", str(run))
    return Training(side, seed, run, load_recipe(side.recipe, changes), command)


def folder_name(side: Side) -> str:
    """Of the trainings of a side, before their seed."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", side.name).strip("-")


def as_begun(sides: Sequence[Side], out: Path) -> tuple[tuple[Side, ...], list[str]]:
    """Choose the editions of the recipes: those of what was trained in the folder `out`, where they are earlier ones.

    Returns:
        The sides with NAME@K in the place of such recipes, and what the user should know of it, a line each.
    """
    chosen, notes = [], []
    for side in sides:
        edition = earlier_edition(side.recipe, out.glob(f"{folder_name(side)}-seed*"))
        chosen.append(side if edition is None else replace(side, recipe=f"{side.recipe}@{edition}"))
        if edition is not None:
            notes.append(note_on_edition(out, side.recipe, edition))
    return tuple(chosen), notes


def require_comparable(base: Recipe, other: Recipe, name: str) -> None:
    """Raise ConfigError where losses or samples of two recipes are of different things; `name` is that of the other's side."""
    here, there = flattened(base.model_dump(mode="json")), flattened(other.model_dump(mode="json"))
    # what the network predicts may differ: the loss of every side is told as that of the first one
    for block in ("data.source", "data.transform", "data.holdout", "autoencoder", "process.schedule", "process.resolution"):
        parts = {key for key in here.keys() | there.keys() if key == block or key.startswith(f"{block}.")}
        if any(here.get(key) != there.get(key) for key in parts):
            raise ConfigError(
                f"recipe {name!r} has another {block} than the one that sets the level",
                needed="the same pictures, latents and noise, or the level means nothing for it",
                fix=f"leave {block} as it is, or change it for both",
            )


def sampling_of_level(base: Recipe, choice: Choice) -> dict[str, Any]:
    """Return the sampling settings by which every model is measured: those of the recipe that sets the level."""
    content = base.sampling.model_dump(mode="json")
    return content | ({} if choice.steps is None else {"steps": choice.steps})


def forward_passes(base: Recipe, choice: Choice) -> int:
    """Return about how many pictures go through the network to measure one point."""
    steps = choice.steps or base.sampling.steps
    guidance = base.sampling.guidance
    evaluations = steps * (2 if base.sampling.solver == "heun" else 1)
    sampled = choice.pictures * evaluations * len(branches(guidance.semantic_scale, guidance.control_scale))
    return sampled + 10 * min(choice.pictures, LOSS_PICTURES)


LOSS_PICTURES = 256
"""On so many held-out pictures the loss is measured, at ten noise levels."""


def sides_of(base: str, changes: Sequence[str], tuned: str | None, more: Sequence[str], name: str) -> list[Side]:
    """Return the recipe that sets the level and, where one is named or changed, the tuned one; `changes` hold for both."""
    sides = [Side("base", base, tuple(changes))]
    if tuned is not None or more:
        if name == "base":
            raise ConfigError("--name base", needed="a name of its own for the tuned recipe", fix="--name tuned")
        sides.append(Side(name, tuned or base, (*changes, *more)))
    return sides
