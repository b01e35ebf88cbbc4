"""Every declared study, without training any."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch

from open_ldm.commands.dry_run import assumed_facts
from open_ldm.commands.evaluate.config import EvaluationConfig
from open_ldm.core.errors import ConfigError
from open_ldm.model.diffusion import DiffusionModel
from open_ldm.runs.recipe import Recipe
from open_ldm.studies.catalogue import STUDIES, study_of
from open_ldm.studies.cost import SUSTAINED_TFLOPS, cost_of
from open_ldm.studies.measure import extractor_settings
from open_ldm.studies.run import Choice, jobs_of
from open_ldm.studies.study import SCALES, Study

TRAINED = [study for study in STUDIES.values() if study.scales]
DRAWN = [study for study in STUDIES.values() if study.figures is not None]
OUT = Path("runs") / "none"


@cache
def builds(parts: str, recipe: Recipe) -> bool:
    with torch.device("meta"):
        DiffusionModel(recipe.model_spec(assumed_facts(recipe)))
    return True


def test_every_row_of_the_papers_tables_is_there() -> None:
    shown = " ".join(study.shows for study in STUDIES.values())
    for row in ("table 1", "2a", "2b", "2c", "table 3", "table 4a", "4b", "figure 2", "7", "3", "A1", "4", "A2", "A3 and A4"):
        assert row in shown


@pytest.mark.parametrize("study", TRAINED, ids=lambda study: study.name)
def test_every_arm_is_a_recipe_at_every_scale(study: Study) -> None:
    assert tuple(study.scales) == SCALES
    arms = set()
    for scale in SCALES:
        for setting in study.settings(scale):
            jobs = list(jobs_of(study, setting, OUT, Choice()))
            assert len(jobs) == setting.seeds * len(setting.arms)
            assert {job.recipe.training.seed for job in jobs} == set(range(setting.seeds))
            arms |= set(setting.arms)
            settings = extractor_settings(setting.protocol, OUT)
            EvaluationConfig.model_validate({"metrics": setting.protocol.metrics, "extractors": settings})
            for name in setting.arms:
                assert setting.arms[setting.run_of(name)].run is None
    assert {each for one in study.expectations for each in (one.arm, one.against)} <= arms


@pytest.mark.parametrize("study", TRAINED, ids=lambda study: study.name)
def test_every_arm_builds_at_the_papers_scale(study: Study) -> None:
    for setting in study.settings("paper"):
        for job in jobs_of(study, setting, OUT, Choice()):
            assert job.recipe.latent_shape[0] == 4
            parts = job.recipe.model_dump_json(include={"process", "conditioning", "denoiser", "data", "autoencoder"})
            assert builds(parts, job.recipe.model_copy(update={"name": "any", "training": None}))


def test_arms_differ_in_what_they_say() -> None:
    """Two arms of one setting train alike only when they say that they share a run."""
    for study in TRAINED:
        for setting in study.settings("small"):
            seen: dict[str, str] = {}
            for job in jobs_of(study, setting, OUT, Choice(seeds=1)):
                arm = setting.run_of(job.arm)
                content = job.recipe.model_dump_json(exclude={"name"})
                assert seen.setdefault(content, arm) == arm


def test_the_cost_is_that_of_three_forward_passes() -> None:
    cost = cost_of(study_of("size-at-inference"), "paper", OUT, Choice(seeds=2))
    (arm,) = cost.arms  # one training serves all sizes
    assert arm.runs == 2 and arm.parameters > 1e9
    assert arm.flops == pytest.approx(2 * 3 * 2 * arm.gmacs * 1e9 * arm.samples)
    assert arm.gpu_hours == pytest.approx(arm.flops / SUSTAINED_TFLOPS / 1e12 / 3600)
    assert "Not run at this scale here" in cost.text() and "GPU hours" in cost.text()


@pytest.mark.parametrize("study", DRAWN, ids=lambda study: study.name)
def test_figures_are_drawn(study: Study) -> None:
    assert study.figures is not None
    for figure in study.figures():
        assert len(figure.plot.series) > 1 and all(len(one.x) == len(one.y) for one in figure.plot.series)


def test_an_unknown_study_is_named() -> None:
    with pytest.raises(ConfigError, match="unknown study 'text-paddin'; needed: did you mean 'text-padding'"):
        study_of("text-paddin")
