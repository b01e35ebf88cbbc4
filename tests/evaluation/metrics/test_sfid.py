"""sFID is the Fréchet distance of spatial features, which an evaluation takes from the Inception file that it is given."""

from __future__ import annotations

from dataclasses import replace

import pytest

from open_ldm.commands.evaluate.config import EvaluationConfig, with_spatial
from open_ldm.core.errors import ConfigError
from open_ldm.evaluation.bootstrap import BootstrapConfig
from open_ldm.evaluation.features import InceptionConfig, RandomConfig
from open_ldm.evaluation.features.inception import POOL, SPATIAL
from open_ldm.evaluation.metrics import FIDConfig, SFIDConfig
from open_ldm.evaluation.statistics import Statistics
from tests.evaluation.sets import normal_statistics

QUICK = BootstrapConfig(replicates=20)


def seen_by(name: str, shift: float) -> Statistics:
    found = normal_statistics(60, 4, seed=1, shift=shift)
    return replace(found, extractor=replace(found.extractor, name=name))


def test_it_is_the_frechet_distance_of_spatial_features() -> None:
    (spatial,) = SFIDConfig().measure(seen_by(SPATIAL, 1), seen_by(SPATIAL, 0), QUICK)
    (pooled,) = FIDConfig().measure(seen_by(POOL, 1), seen_by(POOL, 0), QUICK)
    assert spatial == replace(pooled, name="sfid", warnings=spatial.warnings) and spatial.value == pytest.approx(4)
    with pytest.raises(ConfigError, match=f"sfid: {POOL} has no spatial features"):
        SFIDConfig().measure(seen_by(POOL, 1), seen_by(POOL, 0), QUICK)


def test_an_inception_file_gives_both_views_once_sfid_is_wanted() -> None:
    inception = InceptionConfig(path="inception.pth")
    given = (inception, RandomConfig())
    plain = EvaluationConfig(metrics=("fid",), extractors=given)
    both = EvaluationConfig(metrics=("fid", "sfid"), extractors=given)
    twin = InceptionConfig(path="inception.pth", layer="spatial")
    assert with_spatial(plain) == given and with_spatial(both) == (*given, twin)
    assert with_spatial(both.model_copy(update={"extractors": (inception, twin)})) == (inception, twin)
