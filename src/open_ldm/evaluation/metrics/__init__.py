"""Metrics over two sets of pictures. A new one is one file and one line in the union below."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from open_ldm.evaluation.metrics.base import Metric
from open_ldm.evaluation.metrics.clip_score import CLIPScoreConfig
from open_ldm.evaluation.metrics.density_coverage import DensityCoverageConfig
from open_ldm.evaluation.metrics.fid import FIDConfig
from open_ldm.evaluation.metrics.inception_score import InceptionScoreConfig
from open_ldm.evaluation.metrics.kid import KIDConfig
from open_ldm.evaluation.metrics.precision_recall import PrecisionRecallConfig
from open_ldm.evaluation.metrics.sfid import SFIDConfig
from open_ldm.evaluation.metrics.sliced_wasserstein import SlicedWassersteinConfig

MetricConfig = Annotated[
    FIDConfig
    | SFIDConfig
    | KIDConfig
    | SlicedWassersteinConfig
    | InceptionScoreConfig
    | PrecisionRecallConfig
    | DensityCoverageConfig
    | CLIPScoreConfig,
    Field(discriminator="kind"),
]

__all__ = [
    "CLIPScoreConfig",
    "DensityCoverageConfig",
    "FIDConfig",
    "InceptionScoreConfig",
    "KIDConfig",
    "Metric",
    "MetricConfig",
    "PrecisionRecallConfig",
    "SFIDConfig",
    "SlicedWassersteinConfig",
]
