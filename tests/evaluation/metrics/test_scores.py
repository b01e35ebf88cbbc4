"""Inception score and CLIP score."""

from __future__ import annotations

import math

import pytest
import torch

from open_ldm.core.errors import ConfigError
from open_ldm.evaluation.bootstrap import BootstrapConfig
from open_ldm.evaluation.metrics.clip_score import CLIPScoreConfig
from open_ldm.evaluation.metrics.inception_score import InceptionScoreConfig
from tests.evaluation.sets import statistics_of
from tests.helpers import randn

QUICK = BootstrapConfig(replicates=20)


def score(probabilities: torch.Tensor) -> float:
    samples = statistics_of(randn(len(probabilities), 2), probabilities=probabilities)
    (found,) = InceptionScoreConfig().measure(samples, samples, QUICK)
    return found.value


def test_inception_score_is_the_plain_one() -> None:
    probabilities = randn(20, 6, seed=1).softmax(dim=1)
    rows = probabilities.double().tolist()
    marginal = [sum(row[k] for row in rows) / 20 for k in range(6)]
    divergences = [sum(p * math.log(p / q) for p, q in zip(row, marginal, strict=True)) for row in rows]
    assert score(probabilities) == pytest.approx(math.exp(sum(divergences) / 20))


def test_its_ends() -> None:
    assert score(torch.eye(7).repeat(3, 1)) == pytest.approx(7)  # certain and various: as many as classes
    assert score(torch.full((10, 7), 1 / 7)) == pytest.approx(1)  # uncertain
    assert score(torch.eye(7)[:1].repeat(10, 1)) == pytest.approx(1)  # all alike


def test_clip_score_is_the_mean_of_the_scores() -> None:
    scores = torch.tensor([10.0, 20.0, 33.0])
    samples = statistics_of(randn(3, 2), scores=scores)
    (found,) = CLIPScoreConfig().measure(samples, samples, QUICK)
    assert found.value == pytest.approx(21)
    assert found.low < 21 < found.high


@pytest.mark.parametrize("metric", [InceptionScoreConfig(), CLIPScoreConfig()])
def test_an_extractor_that_cannot_is_refused(metric: InceptionScoreConfig | CLIPScoreConfig) -> None:
    samples = statistics_of(randn(5, 2))
    with pytest.raises(ConfigError, match=r"plain vectors.*needed: .*extractor"):
        metric.measure(samples, samples, QUICK)
