"""The families of published models: what must be known of an architecture to import and export its weights."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from open_ldm.core.errors import CheckpointError, ConfigError
from open_ldm.denoisers.base import SIZES, GeometryConfig
from open_ldm.interop.files import WeightFile
from open_ldm.interop.keymap import KeyMap, State
from open_ldm.model.spec import ModelSpec

Layout = Literal["original", "diffusers"]
Settings = dict[str, Any]
"""Recipe settings by dotted name."""


@dataclass(frozen=True)
class Description:
    """What a published file says of its model.

    Attributes:
        settings: Of the recipe, the quirks of the published weights among them.
        latent_side: Of the square latents that it was trained on.
        classes: Number of classes without the null class; 0 for a model of captions.
    """

    settings: Settings
    latent_side: int
    classes: int = 0


class Family(ABC):
    """One architecture; `recipe` names the packaged recipe that an import starts from."""

    recipe: str

    def tensors(self, file: WeightFile) -> State:
        """Select the tensors of a file that belong to the model, without the prefix of a larger bundle."""
        return file.state

    @abstractmethod
    def describe(self, file: WeightFile, state: State) -> Description:
        """Describe a model by the shapes of its tensors and a diffusers config, and name the quirks of the weights."""

    @abstractmethod
    def key_map(self, spec: ModelSpec, layout: Layout) -> KeyMap:
        """Build the layout of a model of these settings."""

    def peer(self, spec: ModelSpec) -> nn.Module:
        """Build diffusers' network for a model of these settings. Raises ConfigError where diffusers has none."""
        raise ConfigError(f"diffusers has no model for {spec.denoiser.kind}", fix="use the run folder itself")

    def for_export(self, spec: ModelSpec, ours: Mapping[str, Tensor]) -> tuple[ModelSpec, Mapping[str, Tensor]]:
        """Rewrite a model so that diffusers can hold it, a computed table as numbers, say; it computes the same."""
        return spec, ours

    def notes(self, spec: ModelSpec) -> str:
        """What a user of the exported folder must know; empty where there is nothing to know."""
        return ""


def count_blocks(state: State, prefix: str) -> int:
    """Count the blocks `prefix`.0, `prefix`.1, ... of a state. Raises CheckpointError when there are none."""
    numbers = {int(name[len(prefix) + 1 :].split(".")[0]) for name in state if name.startswith(f"{prefix}.")}
    if not numbers:
        raise CheckpointError(f"the file holds no {prefix}.0", needed="the layout of this architecture")
    return max(numbers) + 1


def shape_of(state: State, name: str) -> tuple[int, ...]:
    """Shape of a tensor by name. Raises CheckpointError where the file lacks it."""
    if name not in state:
        raise CheckpointError(f"the file lacks {name}", needed="the layout of this architecture")
    return tuple(state[name].shape)


def geometry(width: int, depth: int, heads: int | None = None) -> Settings:
    """Settings of a transformer.

    Args:
        width: D.
        depth: Number of blocks.
        heads: Attention heads, which do not show in shapes; None takes those of the named size of this width, if any.

    Returns:
        Settings of its denoiser by dotted name.
    """
    known = {named.width: named.heads for named in SIZES.values()}
    settings: Settings = {"denoiser.depth": depth, "denoiser.width": width}
    if heads is not None or width in known:
        settings["denoiser.heads"] = heads or known[width]
    return settings


def square_side(tokens: int, name: str) -> int:
    """Side of a square table of so many tokens. Raises CheckpointError for a number that is no square."""
    side = math.isqrt(tokens)
    if side * side != tokens:
        raise CheckpointError(f"{name} has {tokens} tokens", needed="a square grid")
    return side


def refuse_qk_norm(config: GeometryConfig) -> None:
    """Raise ConfigError for a model that normalises queries and keys, for whose weights published layouts have no names."""
    if config.qk_norm != "none":
        raise ConfigError(
            f"no published layout of {type(config).__name__.removesuffix('Config')} holds denoiser.qk_norm={config.qk_norm}",
            needed="a model trained with qk_norm none",
            fix="sample from the run folder with ldm sample",
        )


def refuse_controls(spec: ModelSpec) -> None:
    """Raise ConfigError for a model with control conditions, which diffusers' networks cannot hold."""
    if spec.conditioning.controls:
        kinds = ", ".join(control.kind for control in spec.conditioning.controls)
        raise ConfigError(
            f"diffusers' network cannot hold the control conditions {kinds}",
            needed="a model trained without them",
            fix="sample from the run folder with ldm sample",
        )
