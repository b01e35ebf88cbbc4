"""Batches of the shapes that a recipe trains on, made without data."""

from __future__ import annotations

import torch

from open_ldm.autoencoders import Posterior
from open_ldm.conditioning.empty import empty_inputs
from open_ldm.encoded.batch import EncodedBatch
from open_ldm.runs.recipe import Recipe


def made_batch(recipe: Recipe, start: int, pictures: int, device: torch.device) -> EncodedBatch:
    """Make a batch as training would read it: latents of noise, the first class, captions of full length.

    Args:
        recipe: Says the shapes.
        start: Position of the first picture.
        pictures: How many.
        device: Where they lie.
    """
    inputs = empty_inputs(recipe.conditioning, pictures).to(device)
    return EncodedBatch(
        positions=tuple(range(start, start + pictures)),
        posterior=Posterior(torch.zeros(pictures, *recipe.latent_shape, device=device)),
        labels=inputs.labels,
        text=inputs.text,
        controls=inputs.controls,
    )
