"""A recipe: everything that determines a run, as one YAML file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationError, model_validator

from open_ldm.autoencoders import (
    AutoencoderConfig,
    GivenStats,
    IdentityConfig,
    LatentStatsConfig,
    MeasuredStats,
    latent_shape,
)
from open_ldm.autoencoders.latent_stats import given
from open_ldm.conditioning import ConditioningConfig
from open_ldm.core.config import C, Config, validate
from open_ldm.core.errors import ConfigError
from open_ldm.core.overrides import apply_overrides
from open_ldm.data.transforms import TransformConfig
from open_ldm.denoisers import DenoiserConfig
from open_ldm.encoded.cache import CacheConfig
from open_ldm.model.objective import ObjectiveConfig
from open_ldm.model.spec import DataFacts, ModelSpec, ProcessConfig, check_slots
from open_ldm.process.resolution import area
from open_ldm.run_folder.recipe_schema import SCHEMA, changed_meanings, of_its_day, without_later_defaults
from open_ldm.runs.catalogue import is_packaged
from open_ldm.runs.named import Named
from open_ldm.runs.recipe_files import recipe_content
from open_ldm.runs.shapes import require_one_shape, require_sizes, settled_transform
from open_ldm.runs.stated_by_stages import require_taken
from open_ldm.sampling.generate import SamplingConfig
from open_ldm.sampling.time_grid import time_grid
from open_ldm.sources.loader import DataConfig
from open_ldm.sources.picture_files import drop_index_settings
from open_ldm.training.settings import TrainingConfig
from open_ldm.transfer_learning.settings import InitFromConfig


class PreviewConfig(Config):
    """The pictures sampled during training, always from the same seeds.

    Attributes:
        count: How many pictures.
        prompts: Captions or class names to show; empty takes them from the data.
    """

    count: int = Field(default=16, ge=1, le=256)
    prompts: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _all_are_shown(self) -> PreviewConfig:
        if len(self.prompts) > self.count:
            raise ValueError(f"count {self.count} is less than the {len(self.prompts)} prompts")
        return self


class HeldOutConfig(Config):
    """The loss on pictures that data.holdout keeps from training.

    Attributes:
        every_samples: How often it is measured, besides at the end.
        pictures: On how many at most.
    """

    every_samples: int = Field(ge=1)
    pictures: int = Field(default=64, ge=2, le=10_000)


class OnTheWayConfig(Config):
    """What is measured of samples while a run trains: their distance from the data, and whether they repeat training pictures.

    Attributes:
        every_samples: How often, besides at the end; each time costs as much as sampling `pictures` pictures.
        pictures: Samples, always from the same seeds; as many held-out pictures are beside them, where there are some.
        training_pictures: Training pictures among which the nearest is looked for, at most.
    """

    every_samples: int = Field(ge=1)
    pictures: int = Field(default=256, ge=80, le=50_000)
    training_pictures: int = Field(default=10_000, ge=80)


class Recipe(Named):
    """A run's settings, floor by floor.

    Attributes:
        recipe_schema: Number of the rules that the recipe was resolved by (run_folder/recipe_schema.py); never typed by hand.
        init_from: The run whose weights it starts from; null starts from random numbers.
        stages: Several trainings, one after the other; each has a `name` and the settings it changes (runs/stages.py).
        cache: Keep what the encoders give on the disk, and train from there; null encodes every batch anew.
        held_out: The loss measured on held-out pictures; null measures none on the way.
        evaluation: Samples measured on the way; null, the default, since it takes time, measures none.
    """

    later_settings: ClassVar[tuple[str, ...]] = (*Named.later_settings, "evaluation")
    recipe_schema: Literal[3] = SCHEMA
    init_from: InitFromConfig | None = None
    stages: tuple[dict[str, Any], ...] = ()
    data: DataConfig
    cache: CacheConfig | None = None
    autoencoder: AutoencoderConfig = IdentityConfig()
    latent_stats: LatentStatsConfig = MeasuredStats()
    conditioning: ConditioningConfig
    process: ProcessConfig = ProcessConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    denoiser: DenoiserConfig
    training: TrainingConfig
    sampling: SamplingConfig = SamplingConfig()
    preview: PreviewConfig = PreviewConfig()
    held_out: HeldOutConfig | None = None
    evaluation: OnTheWayConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _read_as_of_its_day(cls, content: Any) -> Any:
        return of_its_day(content) if isinstance(content, Mapping) else content

    @model_validator(mode="after")
    def _parts_fit_one_another(self) -> Recipe:
        sampling = self.sampling
        try:
            require_sizes(self.data.transform, self.autoencoder, self.denoiser)
            require_one_shape(self.data.transform, self.training.compile)
            check_slots(self.conditioning, self.denoiser)
            if isinstance(self.latent_stats, GivenStats):
                given(self.latent_stats, self.autoencoder.channels)
            if (sampling.spacing, sampling.time_shift) != ("trailing", 1):
                time_grid(self.process.build_schedule(), sampling.steps, sampling.spacing, sampling.time_shift)
            if sampling.guidance.guide_scale != 1:
                raise ConfigError("sampling.guidance.guide_scale is for ldm sample --guide", needed="1 in a recipe")
        except ConfigError as error:
            raise ValueError(error.one_line()) from error
        return self

    @model_validator(mode="after")
    def _pixels_have_these_channels(self) -> Recipe:
        have = self.data.channels
        if isinstance(self.autoencoder, IdentityConfig) and self.autoencoder.channels != have:
            raise ValueError(
                f"autoencoder.channels={self.autoencoder.channels}, but the pictures have {have};"
                f" needed: autoencoder.channels={have}, or an autoencoder trained on them (docs/autoencoders.md)"
            )
        return self

    @model_validator(mode="after")
    def _aligned_to_an_encoder(self) -> Recipe:
        if self.objective.alignment is not None and isinstance(self.autoencoder, IdentityConfig):
            raise ValueError(
                "objective.alignment aligns a layer to an autoencoder's encoder, and this recipe trains on pixels;"
                " needed: objective.alignment=null, or an autoencoder (docs/autoencoders.md)"
            )
        return self

    @model_validator(mode="after")
    def _something_is_held_out(self) -> Recipe:
        if self.held_out is not None and self.data.holdout is None:
            raise ValueError("held_out needs pictures kept from training; needed: data.holdout, such as {share: 0.05}")
        return self

    @model_validator(mode="after")
    def _a_cache_holds_fixed_views(self) -> Recipe:
        if self.cache is not None and self.data.views is None:
            raise ValueError("a cache holds fixed views; needed: data.views, the number of each picture, such as data.views=4")
        return self

    @model_validator(mode="after")
    def _schedule_is_for_these_pictures(self) -> Recipe:
        resolution, size = self.process.resolution, self.data.transform.size_px
        if resolution is not None and area(resolution.to_px) != area(size):
            raise ValueError(
                f"process.resolution is for pictures of {resolution.to_px} px, data.transform.size_px is {size};"
                " needed: the same size, or null, which init_from settles"
            )
        return self

    @property
    def transform(self) -> TransformConfig:
        """How views are cut, with the step of buckets that the autoencoder and the denoiser need."""
        return settled_transform(self.data.transform, self.autoencoder, self.denoiser)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the latents of views of `size_px`."""
        return latent_shape(self.autoencoder, *self.data.transform.base)

    def model_spec(self, facts: DataFacts) -> ModelSpec:
        """Return the spec of the model that this recipe trains on data of these facts."""
        return ModelSpec(self.process, self.conditioning, self.denoiser, facts)

    def trained_spec(self, facts: DataFacts) -> ModelSpec:
        """Return the same with what only training needs: the network that aligns a layer."""
        return replace(self.model_spec(facts), alignment=self.objective.alignment)

    @property
    def numerics(self) -> dict[str, Any]:
        """The settings that change the numbers of training: not how often it reports, how it samples, or where things lie."""
        content = self.numerics_with_places
        for place in ("path", "subfolder"):  # what lies there has a fingerprint of its own
            content["autoencoder"].pop(place, None)
        content["data"]["source"].get("of", {}).pop("path", None)
        return content

    @property
    def numerics_with_places(self) -> dict[str, Any]:
        """The same with the places of the autoencoder and of shrunk pictures, as earlier versions told recipes apart."""
        content = self.model_dump(
            mode="json",
            exclude={"name", "edition", "stages", "sampling", "preview", "held_out", "evaluation", "parallel", "track"},
        )
        for group in content["conditioning"]["semantic"].get("encoder", {}).get("models", ()):
            for model in group:
                model.pop("path")  # the encoder's own fingerprint tells whether it is the same
        if content["init_from"] is not None:
            content["init_from"].pop("source")  # transfer.json tells which weights they were
        kept = content.pop("cache") or {}
        content["cache"] = {name: kept.get(name, "float32") for name in ("latents", "tokens")}  # float32 is as good as live
        return numerics_of(without_later_defaults(content), self.training)


def numerics_of(content: dict[str, Any], training: TrainingConfig) -> dict[str, Any]:
    """Reduce a recipe's plain data, in place, to the settings that change numbers.

    What the fingerprint holds one by one goes, and how often a run reports; so does its length, where no learning rate depends
    on it.
    """
    for name in ("device", "dtype", "deterministic", "micro_batch_size"):
        content["training"].pop(name)
    for name in ("recompute", "compile"):
        content["training"].pop(name, None)  # written only where it is not the default
    for name in ("snapshot_every_samples", "keep_snapshots"):
        content["training"]["ema"].pop(name, None)
    content["data"].pop("workers")
    content["data"].pop("display")
    source = content["data"]["source"]  # the data's own fingerprint tells whether they are the same pictures
    source.pop("path", None)
    for settings in (source, source.get("of", {})):
        drop_index_settings(settings)
    for name in ("samples", "log_every_samples", "preview_every_samples", "checkpoint_every_samples", "keep_checkpoints"):
        if name != "samples" or training.optimizer.decay == "constant":
            content["training"].pop(name)
    return content


def load_recipe(name: str, overrides: Sequence[str] = (), edition: int | None = None) -> Recipe:
    """Load a recipe.

    Args:
        name: NAME or NAME@K of a packaged recipe, or the path of a YAML file or a run folder.
        overrides: Assignments `a.b=c`, applied in order.
        edition: Of the packaged recipe that it is or extends, where no @K names one; None for the newest.

    Returns:
        The resolved recipe.

    Raises:
        ConfigError: There is no such recipe or edition, or a setting cannot be used; the error names the nearest match.
    """
    return recipe_from(recipe_content(name, edition), overrides, source=f"recipe {name}")


def recipe_notes(name: str, overrides: Sequence[str] = ()) -> list[str]:
    """Say which settings that a user wrote meant something else once; arguments and errors as `load_recipe`."""
    return [] if is_packaged(name) else changed_meanings(recipe_content(name, packaged=False), overrides)


def recipe_from(content: Mapping[str, Any], overrides: Sequence[str], *, source: str) -> Recipe:
    """Build a recipe from plain data.

    Args:
        content: Nested settings.
        overrides: Assignments `a.b=c`; they reach defaults too, whether or not the content mentions them.
        source: What errors call the content.

    Raises:
        ConfigError: A setting cannot be used, or has no effect since every stage states its own.
    """
    if "network" in content and "denoiser" not in content:
        raise ConfigError(f"{source} trains an autoencoder", needed="a recipe of a denoiser", fix="use ldm autoencoder train")
    recipe = build_config(Recipe, content, overrides, source=source)
    require_taken(recipe.stages, overrides)
    return recipe


def build_config(kind: type[C], content: Mapping[str, Any], overrides: Sequence[str], *, source: str) -> C:
    """Build a config of one kind from plain data; arguments and errors as `recipe_from`."""
    if any(each.partition("=")[0].strip() == "edition" for each in overrides):
        raise ConfigError("edition is no setting to change", needed="NAME@K, such as demo@1, in the place of the recipe")
    try:
        whole = kind.model_validate(content).model_dump(mode="json")
    except ValidationError:
        whole = dict(content)  # an override may supply what is missing; if not, the error below says what
    return validate(kind, apply_overrides(whole, overrides, kind), source=source)
