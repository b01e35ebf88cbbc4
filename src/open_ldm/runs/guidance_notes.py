"""Guidance that leads away from what a training never shows."""

from __future__ import annotations

from open_ldm.conditioning.semantic import NoSemantic
from open_ldm.runs.recipe import Recipe


def guidance_notes(recipe: Recipe) -> list[str]:
    """Say where the guidance of a recipe evaluates the network without conditions that its training never drops.

    Args:
        recipe: Its sampling settings are those of previews, and of `ldm sample` unless options change them.

    Returns:
        A sentence for each kind of condition.
    """
    conditioning, guidance = recipe.conditioning, recipe.sampling.guidance
    kind, notes = conditioning.semantic.kind, []
    if not isinstance(conditioning.semantic, NoSemantic) and conditioning.semantic_drop == 0 and guidance.semantic_scale != 1:
        notes.append(
            f"guidance leads away from pictures without {kind}, which conditioning.semantic_drop=0 never trains;"
            " a drop of 0.1 does"
        )
    without_controls = guidance.control_scale != 1 or (guidance.semantic_scale != 1 and not guidance.keep_controls)
    if conditioning.controls and conditioning.control_drop == 0 and without_controls:
        notes.append(
            "guidance leads away from pictures without controls, which conditioning.control_drop=0 never trains;"
            " a drop of 0.1 does, and sampling.guidance.keep_controls=true guides with them"
        )
    return notes
