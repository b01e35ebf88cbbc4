"""`init_from`: the run whose weights a new run starts from."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from open_ldm.core.config import Config
from open_ldm.denoisers.blocks.positions import GridChange


class InitFromConfig(Config):
    """Start from the weights of another run, trained or imported; transfer.json says tensor by tensor what became of them.

    Attributes:
        source: A run folder, or one checkpoint in it.
        weights: Its averaged weights, or the raw ones that the optimiser last changed.
        positions: How position tables reach another grid (docs/method.md, 5.1).
        rescale_noise: Shift the noise schedule where the pictures have another size, so that the uncertainty at each time stays
            what it was (docs/method.md, 5.2).
        classes: Take over the vectors of classes of the same name, whatever the case of its letters, or make all new.
        allow: Names of tensors, `*` for any letters, that may be new or dropped without a reason in the two recipes.
    """

    source: str = Field(min_length=1)
    weights: Literal["averaged", "raw"] = "averaged"
    positions: GridChange = "resample"
    rescale_noise: bool = True
    classes: Literal["match", "new"] = "match"
    allow: tuple[str, ...] = ()
