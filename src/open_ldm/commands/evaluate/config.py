"""What `ldm evaluate` measures, on how many pictures, and how they are sampled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import Field, field_validator

from open_ldm.core.config import Config
from open_ldm.evaluation.bootstrap import BootstrapConfig
from open_ldm.evaluation.features import FeatureConfig, InceptionConfig
from open_ldm.evaluation.features.distance import DistanceName
from open_ldm.evaluation.metrics import MetricConfig, SFIDConfig
from open_ldm.evaluation.metrics.base import MetricWords
from open_ldm.evaluation.readers import ReaderConfig
from open_ldm.process.prediction import PredictionKind

T = TypeVar("T")
LAYERED = ("lpips", "classifier", "random")
"""Extractors that give layers."""


def _as_words(given: Any) -> Any:
    return [str(value) for value in given] if isinstance(given, list | tuple) else given


class InfluenceMetric(Config):
    """Control influence of a run: `pictures` seeds, each sampled under every value of `control`, and how far they differ.

    `values`, `small`: null takes for size the squares of 1/4, 1/2, 1, 2 and 4 times the model's pictures, which at 256 px are
    the paper's, and calls those below the model's pictures small. `over`: null takes layers where an extractor has some.
    """

    kind: Literal["control_influence"] = "control_influence"
    words: ClassVar[Mapping[str, MetricWords]] = {
        "control_influence": MetricWords(
            "size influence", "distance between samples of the same noise and prompt under different size controls"
        ),
        "control_influence_large": MetricWords(
            "size influence, HR", "the same without the small sizes, whose pictures are coarse"
        ),
    }
    control: str = "size"
    values: tuple[str, ...] | None = None
    small: tuple[str, ...] | None = None
    over: DistanceName | None = None
    pictures: int = Field(default=64, ge=2)

    _values = field_validator("values", "small", mode="before")(_as_words)


class ContentChangeMetric(Config):
    """Share of `pictures` seeds whose content changes when only `control` changes, over its `values`, and the floor beside it.

    `reader`: what tells the content; null takes the reader of shapes for a run on shapes, else the first classifier among the
    extractors. `attributes`: of those that it reads; null compares all that the control must leave alone. `values`: null takes
    for size those of control_influence, for flip 0 and 1. `real_pictures`: of the data (its held-out part, where there is one),
    for the floor: the share of them that the same reader reads differently once they are shrunk to the sizes and enlarged, or
    mirrored.
    """

    kind: Literal["content_change"] = "content_change"
    words: ClassVar[Mapping[str, MetricWords]] = {
        "content_change": MetricWords(
            "content change",
            "share of seeds whose content, as read by an independent reader, changes with the control",
            floor="content_change_floor",
        ),
        "content_change_floor": MetricWords(
            "content change, floor", "share of real pictures that the reader reads differently though they show the same"
        ),
    }
    control: str = "size"
    values: tuple[str, ...] | None = Field(default=None, min_length=2)
    attributes: tuple[str, ...] | None = None
    reader: ReaderConfig | None = None
    pictures: int = Field(default=64, ge=2)
    real_pictures: int = Field(default=200, ge=2)

    _values = field_validator("values", mode="before")(_as_words)


class CoarseChangeMetric(Config):
    """How much the coarse pictures of `pictures` seeds change when only `control` changes, over its `values`, and the floor.

    0 none, 1 as much as the picture of another seed differs. No reader is needed: pictures are compared at the detail that all
    sizes can show, for other controls a quarter of each side. `values`: null takes those of content_change. `real_pictures`: of
    the data, for the floor, shrunk to the sizes and enlarged, or mirrored.
    """

    kind: Literal["coarse_change"] = "coarse_change"
    words: ClassVar[Mapping[str, MetricWords]] = {
        "coarse_change": MetricWords(
            "coarse change",
            "change of coarse pictures with the control: 0 none, 1 as much as with another noise and condition",
            floor="coarse_change_floor",
        ),
        "coarse_change_floor": MetricWords("coarse change, floor", "the same of real pictures that show the same"),
    }
    control: str = "size"
    values: tuple[str, ...] | None = Field(default=None, min_length=2)
    pictures: int = Field(default=64, ge=2)
    real_pictures: int = Field(default=200, ge=2)

    _values = field_validator("values", mode="before")(_as_words)


class ControlEffectMetric(Config):
    """How much of what `control` does to real pictures it does to samples of `pictures` seeds: 0 nothing, 1 as much.

    For size the energy of detail, for crop that at the edges it cuts, against `real_pictures` views of the data whose own
    setting is near each of `values`; for flip whether a picture is mirrored, by the place that `reader` reads, where it does.
    """

    kind: Literal["control_effect"] = "control_effect"
    words: ClassVar[Mapping[str, MetricWords]] = {
        "control_effect": MetricWords(
            "control effect", "change of samples with the control: 0 none, 1 as much as between real pictures", "higher"
        ),
    }
    control: str = "size"
    values: tuple[str, ...] | None = Field(default=None, min_length=2)
    reader: ReaderConfig | None = None
    pictures: int = Field(default=64, ge=2)
    real_pictures: int = Field(default=2000, ge=2)

    _values = field_validator("values", mode="before")(_as_words)


class CutShapesMetric(Config):
    """Share of samples of `pictures` seeds in which a drawn shape touches the picture's border, as one that a crop cuts does.

    Beside it that of `real_pictures` training views, which a model that knows nothing of the crop would show, and of those of
    them that show their picture whole: the floor.
    """

    kind: Literal["cut_shapes"] = "cut_shapes"
    words: ClassVar[Mapping[str, MetricWords]] = {
        "cut_shapes": MetricWords(
            "cut shapes", "share of samples in which a shape touches the border", floor="cut_shapes_floor"
        ),
        "whole_shapes": MetricWords("whole shapes", "share of samples with shapes of which none touches the border", "higher"),
        "cut_shapes_views": MetricWords("cut shapes, views", "share of real training views in which one touches it", ""),
        "cut_shapes_floor": MetricWords("cut shapes, floor", "the same of those views that show their picture whole", ""),
    }
    pictures: int = Field(default=256, ge=2)
    real_pictures: int = Field(default=2000, ge=2)


class LPIPSMetric(Config):
    """How different two pictures of one class or caption are that differ in their noise alone, over `pictures` of them: 0 for a
    model that samples one picture whatever the noise. With LPIPS as extractor the diversity of Zhu et al. (2017, section 4)."""

    kind: Literal["lpips"] = "lpips"
    words: ClassVar[Mapping[str, MetricWords]] = {
        "lpips": MetricWords(
            "lpips", "distance of two samples of one class or caption that differ in their noise alone", "higher"
        ),
    }
    pictures: int = Field(default=64, ge=2)


class NeighboursMetric(Config):
    """Nearest training picture of every sample. `level`: which share of the training pictures' own distances counts as a copy;
    `shown`: pairs on the sheet, the nearest first."""

    kind: Literal["neighbours"] = "neighbours"
    words: ClassVar[Mapping[str, MetricWords]] = {
        "copies": MetricWords("copies", "share of samples as near to a training picture as a copy would be"),
        "copies_held_out": MetricWords("copies held out", "the same share of pictures kept from training", ""),
    }
    level: float = Field(default=0.01, gt=0, lt=1)
    shown: int = Field(default=12, ge=1, le=256)


class HeldOutMetric(Config):
    """Loss of a run on at most `pictures` of those its data.holdout keeps from training, noise level by noise level.

    `prediction`: as which kind of prediction the errors are told; null takes the run's own. Runs of different kinds have
    comparable losses under one.
    """

    kind: Literal["held_out_loss"] = "held_out_loss"
    words: ClassVar[Mapping[str, MetricWords]] = {
        "held_out_loss": MetricWords("held-out loss", "unweighted loss on pictures kept from training, over all noise levels"),
    }
    prediction: PredictionKind | None = None
    pictures: int = Field(default=256, ge=2)


OwnMetric = (
    InfluenceMetric
    | ContentChangeMetric
    | CoarseChangeMetric
    | ControlEffectMetric
    | CutShapesMetric
    | LPIPSMetric
    | NeighboursMetric
    | HeldOutMetric
)
"""What needs more than two sets of pictures."""

AnyMetric = Annotated[MetricConfig | OwnMetric, Field(discriminator="kind")]


class EvaluationConfig(Config):
    """`metrics`: names, or their settings; `extractors`: what sees the pictures; every metric is measured by each that can.
    What is given twice counts once.

    `n` pictures are sampled with seeds `seed`, `seed` + 1, ... (null: 1,000); of given pictures the first `n` are read (null:
    all, up to 50,000). `against_n`: as many pictures of the data at most (null: all). `size_px`: given pictures are brought to
    this size (one number, or height and width); null needs all of one size. `sampling`: changes to the run's settings;
    `controls`: option -> value. `labels`: of a run on classes: random, as often as in the data, or equal, every class in turn.
    `captions`: all, or readable: a caption that the run cannot read gives way to another one of the data that it can.
    """

    metrics: tuple[AnyMetric, ...] = Field(min_length=1)
    extractors: tuple[FeatureConfig, ...] = ()
    n: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0)
    against_n: int | None = Field(default=10_000, ge=1)
    size_px: int | tuple[int, int] | None = None
    sampling: dict[str, Any] = {}
    controls: dict[str, str] = {}
    labels: Literal["random", "equal"] = "random"
    captions: Literal["all", "readable"] = "all"
    bootstrap: BootstrapConfig = BootstrapConfig()

    @field_validator("metrics", mode="before")
    @classmethod
    def _from_names(cls, given: Any) -> Any:
        return [{"kind": each} if isinstance(each, str) else each for each in given]

    @field_validator("metrics", "extractors")
    @classmethod
    def _each_once(cls, given: tuple[T, ...]) -> tuple[T, ...]:
        return tuple(one for place, one in enumerate(given) if one not in given[:place])

    def of_kind(self, kind: type[Any]) -> list[Any]:
        """The metrics of one class."""
        return [metric for metric in self.metrics if isinstance(metric, kind)]


def with_spatial(config: EvaluationConfig) -> tuple[FeatureConfig, ...]:
    """Return the extractors of a config, and for sfid the spatial features of each Inception file among them, last."""
    given = config.extractors
    if not config.of_kind(SFIDConfig):
        return given
    twins = (one.model_copy(update={"layer": "spatial"}) for one in given if isinstance(one, InceptionConfig))
    return (*given, *(twin for twin in dict.fromkeys(twins) if twin not in given))


def changed(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with changes at any depth; another `kind` replaces the whole block."""
    result = dict(settings)
    for name, value in changes.items():
        before = result.get(name)
        if (
            isinstance(value, Mapping)
            and isinstance(before, Mapping)
            and value.get("kind", before.get("kind")) == before.get("kind")
        ):
            result[name] = changed(before, value)
        else:
            result[name] = value
    return result
