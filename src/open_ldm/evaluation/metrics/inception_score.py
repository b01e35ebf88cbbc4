"""Inception score: are single pictures recognisable, and all of them together various?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from open_ldm.core.config import Config
from open_ldm.core.errors import ConfigError
from open_ldm.evaluation.bootstrap import BootstrapConfig, Estimate, estimate, weights
from open_ldm.evaluation.metrics.base import MetricWords, at_least
from open_ldm.evaluation.statistics import Statistics


class InceptionScoreConfig(Config):
    """exp of the mean of KL(p(y|x) || p(y)) (Salimans et al. 2016).

    Differs from the paper: over all pictures at once, not averaged over ten splits, because a split depends on the order and
    lowers the value. The interval is a bootstrap's.
    """

    kind: Literal["inception_score"] = "inception_score"
    needs_reference: ClassVar[bool] = False
    words: ClassVar[Mapping[str, MetricWords]] = {
        "inception_score": MetricWords("inception score", "how recognisable samples are, and how various together", "higher"),
    }

    @property
    def protocol(self) -> str:
        """No settings."""
        return "inception_score"

    def measure(self, samples: Statistics, reference: Statistics, bootstrap: BootstrapConfig) -> list[Estimate]:
        """The score of the samples."""
        at_least(2, "inception_score", samples)
        if samples.rows.probabilities is None:
            raise ConfigError(
                f"inception_score: {samples.extractor.name} gives no class probabilities",
                needed="the inception or a classifier extractor",
            )
        count = len(samples.rows)
        counts = torch.cat([torch.ones(1, count, dtype=torch.float64), weights(bootstrap, count, "inception_score")])
        values = weighted_score(samples.rows.probabilities.double(), counts)
        return [estimate("inception_score", float(values[0]), values[1:], bootstrap, count)]


def weighted_score(probabilities: Tensor, counts: Tensor) -> Tensor:
    """Return the scores [R] of probabilities [n, K], where replicate r holds picture i counts[r, i] times."""
    shares = counts / counts.sum(dim=1, keepdim=True)
    own = torch.special.xlogy(probabilities, probabilities).sum(dim=1)
    marginal = shares @ probabilities
    scores: Tensor = (shares @ own - torch.special.xlogy(marginal, marginal).sum(dim=1)).exp()
    return scores
