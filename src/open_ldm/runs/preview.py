"""Preview pictures during training: always the same wishes and seeds, drawn from the averaged weights."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from open_ldm.conditioning.semantic import ClassSemantic, NoSemantic
from open_ldm.core.display import as_shown
from open_ldm.core.errors import ConfigError
from open_ldm.core.pictures import to_pixels
from open_ldm.data.sample import Source
from open_ldm.model.diffusion import ModelFacts
from open_ldm.runs.recipe import Recipe
from open_ldm.runs.requests import Wish, inputs_for
from open_ldm.sampling.generate import Generator
from open_ldm.text import TextEncoder

PREVIEW_SEED = 1000


def preview_wishes(recipe: Recipe, facts: ModelFacts, source: Source, text_encoder: TextEncoder | None) -> list[Wish]:
    """The recipe's prompts, or captions and classes taken evenly from the data, repeated to `preview.count` pictures."""
    if isinstance(recipe.conditioning.semantic, NoSemantic):
        if recipe.preview.prompts:
            raise ConfigError("preview.prompts is set but the model has no semantic condition", fix="remove it")
        shown: Sequence[str | None] = [None]
    elif recipe.preview.prompts:
        shown = recipe.preview.prompts
    elif isinstance(recipe.conditioning.semantic, ClassSemantic):
        shown = evenly(facts.class_names, recipe.preview.count)
    else:
        shown = evenly(sorted(set(source.captions())), recipe.preview.count)
    wishes = [Wish(PREVIEW_SEED + i, shown[i % len(shown)]) for i in range(recipe.preview.count)]
    inputs_for(wishes, recipe.conditioning, facts, text_encoder)  # an unknown prompt must fail now, not after an hour
    return wishes


def draw(
    recipe: Recipe, facts: ModelFacts, generator: Generator, wishes: Sequence[Wish], text_encoder: TextEncoder | None
) -> Tensor:
    """Pixels uint8 [N, 3, H, W] as people are shown them, for the wishes, by the recipe's sampling settings."""
    inputs = inputs_for(wishes, recipe.conditioning, facts, text_encoder)
    return as_shown(to_pixels(generator.images(inputs, [wish.seed for wish in wishes], recipe.sampling)), recipe.data.display)


def captions_of(wishes: Sequence[Wish]) -> list[str]:
    """What to write under the pictures."""
    return [wish.shows or "" for wish in wishes]


def evenly(items: Sequence[str], count: int) -> list[str]:
    """At most `count` items, evenly spaced."""
    number = min(len(items), count)
    return [items[i * len(items) // number] for i in range(number)]
