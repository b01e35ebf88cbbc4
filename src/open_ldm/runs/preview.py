"""Preview pictures during training: always the same requests and seeds, sampled from the averaged weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from torch import Tensor

from open_ldm.autoencoders import latent_shape
from open_ldm.conditioning.semantic import ClassSemantic, NoSemantic
from open_ldm.core.display import as_shown
from open_ldm.core.errors import ConfigError
from open_ldm.core.pictures import to_pixels
from open_ldm.data.sample import Source
from open_ldm.data.survey import some_captions
from open_ldm.model.spec import DataFacts
from open_ldm.runs.recipe import Recipe
from open_ldm.runs.shapes import sampled_shapes
from open_ldm.sampling.generate import Generator
from open_ldm.sampling.requests import SampleRequest, build_inputs
from open_ldm.text import TextEncoder

PREVIEW_SEED = 1000
T = TypeVar("T")


def preview_requests(recipe: Recipe, facts: DataFacts, source: Source, text_encoder: TextEncoder | None) -> list[SampleRequest]:
    """Requests for `preview.count` pictures: of the recipe's prompts, or of captions and classes taken evenly from the data.

    Args:
        recipe: Says what is shown and how many pictures.
        facts: The model's: its classes.
        source: The data set: its captions.
        text_encoder: Checks the prompts of a model of captions.

    Returns:
        The requests; their seeds follow one another from a fixed one.

    Raises:
        ConfigError: A prompt is unknown to the model, or prompts are given to a model without a semantic condition.
    """
    if isinstance(recipe.conditioning.semantic, NoSemantic):
        if recipe.preview.prompts:
            raise ConfigError("preview.prompts is set, but the model has no semantic condition", fix="remove preview.prompts")
        shown: Sequence[str | None] = [None]
    elif recipe.preview.prompts:
        shown = recipe.preview.prompts
    elif isinstance(recipe.conditioning.semantic, ClassSemantic):
        shown = evenly(facts.class_names, recipe.preview.count)
    else:
        shown = evenly(sorted(set(some_captions(source))), recipe.preview.count)
        if not shown and recipe.preview.count:
            raise ConfigError("there is no caption to preview", needed="captions in the data", fix="name some: preview.prompts")
    requests = [SampleRequest(PREVIEW_SEED + i, shown[i % len(shown)]) for i in range(recipe.preview.count)]
    build_inputs(requests, recipe.conditioning, facts, text_encoder)  # an unknown prompt must fail now, not after an hour
    return requests


def sample_previews(
    recipe: Recipe, facts: DataFacts, generator: Generator, requests: Sequence[SampleRequest], text_encoder: TextEncoder | None
) -> list[Tensor]:
    """Sample the requested pictures by the recipe's sampling settings: pixels uint8 [3, H, W] of each, as they are shown.

    In buckets they have the shapes in turn, the usual one first; where there are more shapes than pictures, some of them.
    """
    usual, *others = sampled_shapes(recipe.transform)
    shapes = [usual, *evenly(others, len(requests) - 1)]
    shape_at = [shapes[place % len(shapes)] for place in range(len(requests))]
    sampled: dict[int, Tensor] = {}
    for shape in dict.fromkeys(shape_at):
        places = [place for place, other in enumerate(shape_at) if other == shape]
        own = [requests[place] for place in places]
        inputs = build_inputs(own, recipe.conditioning, facts.of_shape(shape), text_encoder)
        of_shape = generator.of_size(latent_shape(recipe.autoencoder, *shape)[1:])
        images = of_shape.images(inputs, [request.seed for request in own], recipe.sampling)
        sampled |= dict(zip(places, as_shown(to_pixels(images), recipe.data.display), strict=True))
    return [sampled[place] for place in range(len(requests))]


def captions_of(requests: Sequence[SampleRequest]) -> list[str]:
    """The caption or class of each request, to be written under its picture."""
    return [request.shows or "" for request in requests]


def evenly(items: Sequence[T], count: int) -> list[T]:
    """Pick at most `count` items, evenly spaced."""
    number = min(len(items), count)
    return [items[i * len(items) // number] for i in range(number)]
