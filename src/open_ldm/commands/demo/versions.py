"""The two demos: all of it in minutes, and what the size does in one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from open_ldm.runs.editions import earlier_edition, note_on_edition

BASELINE, IMPROVED = "entangled", "improved"


@dataclass(frozen=True)
class Version:
    """What a demo trains and measures.

    Attributes:
        recipes: The packaged recipe of each model.
        changes: Changes to it, by model.
        sizes_px: Positions of the size slider: sides of the original picture.
        pictures: How many pictures each number rests on, besides the agreement with captions that tell everything.
        size_alone: Only the size is looked at; the rest needs a flip control and captions that say the colour.
        folder: Where it goes if nobody says, below `runs/`.
    """

    recipes: Mapping[str, str]
    changes: Mapping[str, Sequence[str]]
    sizes_px: tuple[int, ...]
    pictures: int = 64
    size_alone: bool = False
    folder: str = "demo"


def as_demo_begun(version: Version, out: Path) -> tuple[Version, list[str]]:
    """Choose one edition for both recipes: the earliest that a model in the folder was begun with.

    Args:
        version: As it is declared: a recipe without an edition is the newest.
        out: The folder of the demo; it may be new.

    Returns:
        The version with NAME@K in the place of the recipes where that is an earlier one, and what the user should know of it.
    """
    begun = {recipe: earlier_edition(recipe, [out / model]) for model, recipe in version.recipes.items()}
    known = [edition for edition in begun.values() if edition is not None]
    if not known:
        return version, []
    edition = min(known)  # one recipe extends the other, and moves with it
    recipes = {model: f"{recipe}@{edition}" for model, recipe in version.recipes.items()}
    return replace(version, recipes=recipes), [note_on_edition(out, version.recipes[IMPROVED], edition)]


FULL = Version(
    recipes={BASELINE: "demo-entangled", IMPROVED: "demo-improved"},
    changes={BASELINE: (), IMPROVED: ()},
    sizes_px=(12, 16, 20, 26, 36, 48),
)

_SMALL = (
    "data.transform={size_px: 16, crop: {kind: center}}",
    "denoiser.width=64",
    "denoiser.depth=3",
    "denoiser.heads=4",
    "denoiser.patch=2",
    "training.samples=12000",
    "training.batch_size=16",
    "training.optimizer.warmup_samples=1200",
    "training.ema.decay=0.995",
    "objective.times.mean=0.8",
    "objective.times.std=1.7",
    "training.preview_every_samples=0",
    "training.checkpoint_every_samples=6000",
    "sampling.solver=dpmpp_2m",
    "sampling.steps=12",
)
QUICK = Version(
    recipes={BASELINE: "shapes-entangled-baseline", IMPROVED: "shapes-entangled"},
    changes={
        BASELINE: _SMALL,
        IMPROVED: (*_SMALL, "conditioning.controls=[{kind: original_size, gate: {kind: power_cosine, alpha: 3}}]"),
    },
    sizes_px=(8, 12, 16, 24, 32),
    size_alone=True,
    folder="demo-quick",
)
"""Two colours, 16 px, 12,000 drawings. Left and right are not learned in that time.

The times spread widely: the entangled model learns from the noisy ones that the colour goes with the size, which with half as
many updates it did under some seeds alone; the improved one learns from the others what the size does, where its gate is open.
At alpha 2 the colour changed in 22 % of the pictures of one seed of the improved one (docs/measurements.md).
"""
