"""A recipe for an autoencoder: everything that determines its training, as one YAML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, model_validator

from open_ldm.autoencoders.network import NetworkConfig
from open_ldm.autoencoders.reconstruction import ReconstructionConfig
from open_ldm.core.config import Config
from open_ldm.core.errors import ConfigError
from open_ldm.runs.named import Named
from open_ldm.runs.recipe import Recipe, build_config, load_recipe, numerics_of
from open_ldm.runs.recipe_files import recipe_content
from open_ldm.sources.loader import DataConfig
from open_ldm.training.settings import TrainingConfig


class HeldOutConfig(Config):
    """Pictures that are reconstructed every `training.preview_every_samples` and at the end.

    Attributes:
        pictures: How many are kept from training.
        shown: How many of the worst of them are shown, and as many others.
    """

    pictures: int = Field(default=64, ge=2)
    shown: int = Field(default=8, ge=1, le=64)


class AutoencoderRecipe(Named):
    """Settings of a run of `ldm autoencoder train`.

    Attributes:
        data: Pictures, and how they are cut.
        network: The autoencoder.
        loss: What it is trained on.
        training: Settings of the trainer.
        held_out: Pictures that it is measured on.
    """

    data: DataConfig
    network: NetworkConfig = NetworkConfig()
    loss: ReconstructionConfig = ReconstructionConfig()
    training: TrainingConfig
    held_out: HeldOutConfig = HeldOutConfig()

    @model_validator(mode="after")
    def _views_have_one_shape(self) -> AutoencoderRecipe:
        if self.data.transform.buckets is not None:
            raise ValueError("data.transform.buckets is for denoisers; an autoencoder takes any shape; needed: null")
        return self

    @model_validator(mode="after")
    def _order_is_global(self) -> AutoencoderRecipe:
        if self.data.order is not None and self.data.order.kind != "global":
            raise ValueError("data.order.kind=windowed is for denoisers; an autoencoder needs fewer pictures; needed: global")
        return self

    @model_validator(mode="after")
    def _pictures_fit(self) -> AutoencoderRecipe:
        height, width, factor = self.data.transform.height_px, self.data.transform.width_px, self.network.factor
        if height % factor or width % factor:
            raise ValueError(
                f"pictures of {height}x{width} px do not fit an autoencoder of factor {factor};"
                f" needed: data.transform.size_px in multiples of {factor}"
            )
        if min(height, width) < self.loss.smallest_side():
            raise ValueError(f"pictures of {height}x{width} px are too small for loss.scales={self.loss.scales}")
        if not self.data.suits(self.network.in_channels):
            raise ValueError(
                f"network.in_channels={self.network.in_channels}, but the pictures have {self.data.channels} channels;"
                " needed: the same number, or RGB and 1 for grey; fix: data.source.channels, how many .npy and TIFF files hold"
            )
        return self

    @model_validator(mode="after")
    def _nothing_is_left_to_arithmetic(self) -> AutoencoderRecipe:
        if self.training.micro_batch_size == "auto":
            raise ValueError(
                "training.micro_batch_size=auto is for diffusion models; needed: a number, or null for the whole share"
            )
        return self

    @model_validator(mode="after")
    def _every_setting_is_read(self) -> AutoencoderRecipe:
        for name, default in (("recompute", "none"), ("compile", "auto")):
            if getattr(self.training, name) != default:
                raise ValueError(f"training.{name} has no effect on an autoencoder, which has no blocks; needed: {default}")
        if self.training.ema.kind != "exponential":
            raise ValueError("training.ema.kind=power is for denoisers; an autoencoder has one average; needed: exponential")
        return self

    @property
    def numerics(self) -> dict[str, Any]:
        """The settings that change the numbers of training; what is held out does, what is shown does not."""
        content = numerics_of(self.model_dump(mode="json", exclude={"name", "edition", "parallel", "track"}), self.training)
        content["held_out"].pop("shown")
        return content


def load_autoencoder_recipe(name: str, overrides: Sequence[str] = (), edition: int | None = None) -> AutoencoderRecipe:
    """Load the recipe of an autoencoder; arguments and errors as `runs.recipe.load_recipe`."""
    return autoencoder_recipe_from(recipe_content(name, edition), overrides, source=f"recipe {name}")


def autoencoder_recipe_from(content: Mapping[str, Any], overrides: Sequence[str], *, source: str) -> AutoencoderRecipe:
    """Build the recipe of an autoencoder from plain data; arguments and errors as `runs.recipe.recipe_from`."""
    if "denoiser" in content:
        raise ConfigError(f"{source} trains a denoiser", needed="a recipe of an autoencoder", fix="use ldm train")
    return build_config(AutoencoderRecipe, content, overrides, source=source)


def load_any_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe | AutoencoderRecipe:
    """Load a recipe, whether it is one of a denoiser or of an autoencoder; arguments and errors as `load_recipe`."""
    is_autoencoder = "network" in recipe_content(name)
    return load_autoencoder_recipe(name, overrides) if is_autoencoder else load_recipe(name, overrides)
