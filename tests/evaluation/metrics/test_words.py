"""Every number that a metric can give has words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from open_ldm.commands.choices import members_of
from open_ldm.commands.evaluate.config import AnyMetric, OwnMetric
from open_ldm.evaluation.bootstrap import BootstrapConfig
from open_ldm.evaluation.features.inception import SPATIAL
from open_ldm.evaluation.metrics import MetricConfig, SFIDConfig
from open_ldm.studies.found import METRICS, words_of
from tests.evaluation.sets import statistics_of
from tests.helpers import randn

PROBABILITIES, SCORES = torch.full((60, 4), 0.25), torch.rand(60, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("config", members_of(MetricConfig))
def test_what_a_metric_gives_is_what_it_has_words_for(config: Any) -> None:
    samples, reference = (statistics_of(randn(60, 4, seed=seed), probabilities=PROBABILITIES, scores=SCORES) for seed in (1, 2))
    if config is SFIDConfig:
        seen = replace(samples.extractor, name=SPATIAL)
        samples, reference = replace(samples, extractor=seen), replace(reference, extractor=seen)
    given = config().measure(samples, reference, BootstrapConfig(replicates=20))
    assert {estimate.name for estimate in given} == set(config.words)


def test_studies_take_the_words_of_every_member() -> None:
    for member in (*members_of(AnyMetric), *members_of(OwnMetric)):
        assert member.words and all(words_of(name) is words and words.meaning for name, words in member.words.items())
    floors = {words.floor for words in METRICS.values() if words.floor}
    assert floors <= set(METRICS)
    assert [words_of(name).title for name in ("fid", "control_influence_large", "agreement_kind", "clip_score")] == [
        "FD", "size influence, HR", "kind", "CLIP score",
    ]  # fmt: skip
    assert (words_of("fid").better, words_of("recall").better, words_of("attention_padding").better) == ("lower", "higher", "")
    assert words_of("never heard").title == "never heard"
