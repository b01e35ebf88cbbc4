"""Runs go on where autoencoders and pictures lie elsewhere by now; earlier versions told recipes apart by that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from open_ldm.checkpoints.files import MANIFEST
from open_ldm.model.spec import DataFacts
from open_ldm.runs.begun import parsed
from open_ldm.runs.recipe import Recipe, recipe_from
from open_ldm.training.fingerprint import recipe_hash


def without_places(saved: Mapping[str, Any], recipe: Recipe, facts: DataFacts) -> Mapping[str, Any]:
    """Return a manifest's entries with a fingerprint that does not tell recipes apart by where things lie, as earlier ones did.

    An autoencoder at another place that the run never took a fingerprint of may be another one: nothing is changed then.

    Args:
        saved: What the manifest holds.
        recipe: With which the run goes on.
        facts: What it knows of its data.
    """
    begun, numbers = parsed(recipe_from, saved["recipe"], MANIFEST), saved["fingerprint"]
    places = begun.numerics_with_places
    unknown = not facts.autoencoder and places["autoencoder"] != recipe.numerics_with_places["autoencoder"]
    if unknown or numbers.get("recipe") != recipe_hash(places):
        return saved
    return {**saved, "fingerprint": {**numbers, "recipe": recipe_hash(begun.numerics)}}
