"""Where a model starts from, when not from random numbers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from open_ldm.core.config import Config
from open_ldm.denoisers.blocks.positions import GridChange


class InitFromConfig(Config):
    """Start from the weights of another run, trained or imported. What does not fit is decided by what the two recipes say, and
    written down tensor by tensor in transfer.json.

    `source`: a run folder or one checkpoint in it. `weights`: its averaged weights, or those the optimiser last left.
    `positions`: how position tables reach another grid. `rescale_noise`: shift the noise schedule where the pictures have
    another size, so that the uncertainty at each time stays what it was. `classes`: take over the vectors of classes that have
    the same name there (letters large or small), or make all new. `allow`: names of tensors, `*` for any letters, that may be
    new or dropped for no reason that the recipes give.
    """

    source: str = Field(min_length=1)
    weights: Literal["averaged", "raw"] = "averaged"
    positions: GridChange = "resample"
    rescale_noise: bool = True
    classes: Literal["match", "new"] = "match"
    allow: tuple[str, ...] = ()
