"""A weighting that changes nothing. It is told and not refused, since runs that were begun with it must stay readable."""

from __future__ import annotations

from open_ldm.process.weighting import ErrorOfWeighting
from open_ldm.runs.recipe import Recipe


def weighting_notes(recipe: Recipe) -> list[str]:
    """Say where a recipe weighs the error as that of the prediction that the network makes anyway."""
    weighting, own = recipe.objective.weighting, recipe.process.prediction
    if not isinstance(weighting, ErrorOfWeighting) or weighting.prediction != own:
        return []
    return [
        f"objective.weighting.kind=error_of changes nothing: the network predicts {own} itself; process.prediction=x_0 is what"
        " it is meant for"
    ]
