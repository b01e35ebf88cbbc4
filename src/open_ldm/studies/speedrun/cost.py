"""How long a speedrun takes, before it is begun."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from open_ldm.commands.dry_run import dry_run
from open_ldm.commands.plan import plan
from open_ldm.core.events import duration
from open_ldm.studies.speedrun.settings import Choice, Side, forward_passes, resolved

_PASSES_OF_AN_UPDATE = 3
"""A backward pass costs two forward passes."""


@dataclass(frozen=True)
class SideCost:
    """Seconds of one side: of all its trainings, and at most of measuring all of their points."""

    name: str
    training: float
    measuring: float


@dataclass(frozen=True)
class Cost:
    """Of a speedrun: its sides, and on how many pictures the features are fitted first, once for a folder."""

    sides: tuple[SideCost, ...]
    fitted_on: int

    @property
    def seconds(self) -> float:
        """In all, at most."""
        return sum(each.training + each.measuring for each in self.sides)

    def text(self) -> str:
        """Return it for people."""
        lines = [
            f"{each.name}: training {duration(each.training)}, measuring at most {duration(each.measuring)}"
            for each in self.sides
        ]
        return "\n".join(
            [
                *lines,
                f"in all at most {duration(self.seconds)}; a curve is measured only until it crosses the level",
                f"before that, once for this folder, features are fitted, by {self.fitted_on:,} pictures shown",
            ]
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        sides = {each.name: {"training_seconds": each.training, "measuring_seconds": each.measuring} for each in self.sides}
        return {"sides": sides, "seconds": self.seconds, "features_fitted_on": self.fitted_on}


def cost_of(sides: Sequence[Side], choice: Choice) -> Cost:
    """Compute what a speedrun takes, by real updates on this machine, or by arithmetic where they do not fit."""
    base = resolved(sides[0], choice)
    found = []
    for side in sides:
        recipe = resolved(side, choice)
        speed = plan(dry_run(recipe)).speed.samples_per_second
        assert speed is not None  # since plan measures
        passes = choice.points * forward_passes(base, choice)
        training = choice.seeds * recipe.training.samples / speed
        found.append(SideCost(side.name, training, choice.seeds * passes / (_PASSES_OF_AN_UPDATE * speed)))
    return Cost(tuple(found), choice.fit.pictures)
