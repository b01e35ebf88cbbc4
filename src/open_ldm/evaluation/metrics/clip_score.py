"""CLIP score: do pictures show what their captions say?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from open_ldm.core.config import Config
from open_ldm.core.errors import ConfigError
from open_ldm.evaluation.bootstrap import BootstrapConfig, Estimate, estimate_mean
from open_ldm.evaluation.metrics.base import MetricWords, at_least
from open_ldm.evaluation.statistics import Statistics


class CLIPScoreConfig(Config):
    """Mean of 100 max(cos(picture, caption), 0) in CLIP's joint space.

    Differs from the paper: Hessel et al. 2021 multiply by 2.5; papers on text to image use 100, and so does this.
    """

    kind: Literal["clip_score"] = "clip_score"
    needs_reference: ClassVar[bool] = False
    words: ClassVar[Mapping[str, MetricWords]] = {
        "clip_score": MetricWords("CLIP score", "agreement of samples with their captions", "higher"),
    }

    @property
    def protocol(self) -> str:
        """No settings."""
        return "clip_score"

    def measure(self, samples: Statistics, reference: Statistics, bootstrap: BootstrapConfig) -> list[Estimate]:
        """The score of the samples."""
        at_least(2, "clip_score", samples)
        if samples.rows.scores is None:
            raise ConfigError(
                f"clip_score: {samples.extractor.name} gave no caption scores",
                needed="pictures with captions, and a CLIP folder as --extractor",
            )
        return [estimate_mean("clip_score", samples.rows.scores, bootstrap)]
