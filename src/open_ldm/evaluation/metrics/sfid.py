"""sFID: the Fréchet distance of features that still know where in the picture they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

from open_ldm.core.config import Config
from open_ldm.core.errors import ConfigError
from open_ldm.evaluation.bootstrap import BootstrapConfig, Estimate
from open_ldm.evaluation.features.inception import SPATIAL
from open_ldm.evaluation.metrics.base import MetricWords
from open_ldm.evaluation.metrics.fid import FIDConfig
from open_ldm.evaluation.statistics import Statistics


class SFIDConfig(Config):
    """The Fréchet distance (`fid`) of Inception's spatial features: seven channels of a 17 x 17 map (Nash et al. 2021,
    arXiv 2103.03841). An evaluation with an Inception extractor takes them from the same file."""

    kind: Literal["sfid"] = "sfid"
    needs_reference: ClassVar[bool] = True
    words: ClassVar[Mapping[str, MetricWords]] = {
        "sfid": MetricWords("sFID", "Fréchet distance of Inception's spatial features between samples and data"),
    }

    @property
    def protocol(self) -> str:
        """No settings."""
        return "sfid"

    def measure(self, samples: Statistics, reference: Statistics, bootstrap: BootstrapConfig) -> list[Estimate]:
        """The distance, as `fid` measures it. Raises ConfigError for other features, DataError for too few pictures."""
        if samples.extractor.name != SPATIAL:
            raise ConfigError(
                f"sfid: {samples.extractor.name} has no spatial features",
                needed="Inception's weights file as --extractor, or {kind: inception, layer: spatial, path: FILE}",
            )
        return [
            replace(one, name="sfid", warnings=tuple(text.replace("fid rests", "sfid rests", 1) for text in one.warnings))
            for one in FIDConfig().measure(samples, reference, bootstrap)
        ]
