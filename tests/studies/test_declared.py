"""Every declared study, without training any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from open_ldm.commands.dry_run import assumed_facts
from open_ldm.commands.evaluate.config import EvaluationConfig
from open_ldm.controls.gate import PowerCosineGate
from open_ldm.core.errors import ConfigError
from open_ldm.core.events import duration
from open_ldm.model.diffusion import DiffusionModel
from open_ldm.runs.catalogue import editions
from open_ldm.runs.recipe import Recipe, load_recipe
from open_ldm.sources.loader import DataConfig, open_data
from open_ldm.sources.shapes import ShapesConfig
from open_ldm.sources.shrunk import ShrunkConfig
from open_ldm.studies.agreement import captions_of_lengths, captions_to_check
from open_ldm.studies.catalogue import STUDIES, study_of
from open_ldm.studies.choice import Choice
from open_ldm.studies.cost import SUSTAINED_TFLOPS, cost_of
from open_ldm.studies.jobs import jobs_of
from open_ldm.studies.measure import extractor_settings
from open_ldm.studies.results import condition_of
from open_ldm.studies.study import SCALES, Expectation, Study

TRAINED = [study for study in STUDIES.values() if study.scales]
DRAWN = [study for study in STUDIES.values() if study.figures is not None]
OUT = Path("runs") / "none"


BUILT: set[str] = set()
"""What was built already: the parts of a recipe that its model depends on, as text."""


def build_once(recipe: Recipe) -> None:
    parts = recipe.model_dump_json(include={"process", "conditioning", "denoiser", "data", "autoencoder"})
    if parts not in BUILT:
        with torch.device("meta"):
            DiffusionModel(recipe.model_spec(assumed_facts(recipe)))
        BUILT.add(parts)


def test_every_row_of_the_papers_tables_is_there() -> None:
    shown = " ".join(study.shows for study in STUDIES.values())
    for row in ("table 1", "2a", "2b", "2c", "table 3", "table 4a", "4b", "figure 2", "7", "3", "A1", "4", "A2", "A3 and A4"):
        assert row in shown


@pytest.mark.parametrize("study", TRAINED, ids=lambda study: study.name)
def test_a_folder_holds_one_training(study: Study) -> None:
    for scale in SCALES:
        for setting in study.settings(scale):
            trained: dict[Path, Recipe] = {}
            for job in jobs_of(study, setting, OUT, Choice(seeds=1)):
                for each in (job.start, job):
                    if each is not None:
                        assert trained.setdefault(each.run, each.recipe) == each.recipe, each.run


@pytest.mark.parametrize("study", TRAINED, ids=lambda study: study.name)
def test_what_was_measured_names_the_edition_of_its_recipes(study: Study) -> None:
    """The numbers on the pages of studies are those of an edition; a newer one trains something else."""
    for scale in ("tiny", "small"):
        for setting in study.settings(scale) if scale in study.scales else ():
            sources = [source.recipe for source in setting.sources.values()]
            for name in (setting.recipe, *(arm.recipe for arm in setting.arms.values() if arm.recipe), *sources):
                assert "@" in name or editions(name) == [1], name


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
    assert {each for one in study.expectations for each in one.arms} <= arms


@pytest.mark.parametrize("scale", ["small", "paper"])
@pytest.mark.parametrize("study", TRAINED, ids=lambda study: study.name)
def test_every_arm_builds_at_small_and_paper_scale(study: Study, scale: str) -> None:
    for setting in study.settings(scale):
        for job in jobs_of(study, setting, OUT, Choice(seeds=1)):
            assert scale != "paper" or job.recipe.latent_shape[0] == 4
            build_once(job.recipe)


WORDS: dict[str, set[str]] = {}
"""Of the captions that were read already, by their source as text: studies share sources, and drawings take long to caption."""


def words_of(data: DataConfig) -> set[str]:
    key = data.model_dump_json(include={"source", "holdout"})
    if key not in WORDS:
        WORDS[key] = set(" ".join(open_data(data).captions()).split())
    return WORDS[key]


@pytest.mark.parametrize("study", TRAINED, ids=lambda study: study.name)
def test_captions_to_check_have_only_words_of_the_training(study: Study) -> None:
    for scale in ("tiny", "small"):
        for setting in study.settings(scale):
            data = next(iter(jobs_of(study, setting, OUT, Choice(seeds=1)))).recipe.data
            if setting.protocol.agreement:
                count, groups = setting.protocol.agreement, setting.protocol.by_length.values()
                asked = [captions_of_lengths(data, words, count) for words in groups] or [captions_to_check(data, count)]
                assert {len(captions) for captions in asked} == {count}
                assert {word for captions in asked for word in " ".join(captions).split()} <= words_of(data)


def test_arms_differ_in_what_they_say() -> None:
    """Two arms of one setting train alike only when they say that they share a run."""
    for study in TRAINED:
        for setting in study.settings("small"):
            seen: dict[str, str] = {}
            for job in jobs_of(study, setting, OUT, Choice(seeds=1)):
                arm = setting.run_of(job.arm)
                content = job.recipe.model_dump_json(exclude={"name"})
                assert seen.setdefault(content, arm) == arm


def settings_of(recipe: Recipe) -> dict[str, object]:
    """Every setting by dotted name, but the name."""

    def flat(content: dict[str, Any], prefix: str = "") -> dict[str, object]:
        found: dict[str, object] = {}
        for key, value in content.items():
            found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        return found

    return flat(recipe.model_dump(mode="json", exclude={"name"}))


def differing(one: Recipe, other: Recipe) -> set[str]:
    first, second = settings_of(one), settings_of(other)
    return {name for name in {*first, *second} if first.get(name) != second.get(name)}


@pytest.mark.parametrize("scale", ["small", "paper"])
def test_five_architectures_under_one_recipe_differ_in_the_denoiser_alone(scale: str) -> None:
    study = study_of("architectures")
    most = 0
    for setting in study.settings(scale):
        jobs = {job.arm: job.recipe for job in jobs_of(study, setting, OUT, Choice(seeds=1))}
        kinds = {arm.split(",")[0] for arm in jobs}
        most = max(most, len(kinds))
        for conditioning in ("baseline", "improved"):
            same = [recipe for arm, recipe in jobs.items() if arm.endswith(f", {conditioning}")]
            assert len({recipe.denoiser.kind for recipe in same}) == len(kinds)
            apart = set().union(*(differing(same[0], recipe) for recipe in same))
            assert apart and {name.split(".")[0] for name in apart} == {"denoiser"}
            sampling = [arm.sampling for name, arm in setting.arms.items() if name.endswith(f", {conditioning}")]
            assert not any(sampling)
        for kind in kinds:
            apart = differing(jobs[f"{kind}, baseline"], jobs[f"{kind}, improved"])
            assert apart and all(name.startswith("conditioning.") for name in apart)
    assert most == 5


@pytest.mark.parametrize("study", ["architectures", "control-parametrisation"])
def test_photographs_show_what_the_gate_keeps_out(study: str) -> None:
    """The size goes with classes that no condition tells apart; a control that is ignored does not win."""
    (setting,) = (each for each in study_of(study).settings("small") if each.name == "photographs")
    asked = [each["kind"] for each in setting.protocol.metrics if not isinstance(each, str)]
    assert {"coarse_change", "control_effect", "held_out_loss"} <= set(asked) and "fid" in setting.protocol.metrics
    for job in jobs_of(study_of(study), setting, OUT, Choice(seeds=1)):
        source = job.recipe.data.source
        assert isinstance(source, ShrunkConfig) and source.entangle is not None
        assert source.entangle.by == "class" and source.entangle.strength > 0.9
        assert source.told is not None and sorted(source.told) == ["animal", "vehicle"]


def test_every_arm_of_the_photographs_of_the_architectures_is_judged() -> None:
    study = study_of("architectures")
    (setting,) = (each for each in study.settings("small") if each.name == "photographs")
    jobs = {job.arm: job.recipe for job in jobs_of(study, setting, OUT, Choice(seeds=1))}
    assert setting.seeds == 3 and list(jobs) == ["dit, baseline", "dit, improved", "mmdit, baseline", "mmdit, improved"]
    for kind in ("dit", "mmdit"):
        arm, baseline = f"{kind}, improved", f"{kind}, baseline"
        for metric in ("coarse_change", "fid", "held_out_loss"):
            assert Expectation(arm, baseline, metric) in study.expectations
        for against in (0, baseline):
            assert Expectation(arm, against, "control_effect", "higher") in study.expectations
        (size,) = (one for one in jobs[arm].conditioning.controls if one.kind == "original_size")
        assert size.gate == PowerCosineGate(alpha=2)
        entangled = load_recipe("cifar10-entangled-baseline").conditioning
        assert jobs[baseline].conditioning == entangled
        assert jobs[arm].training == jobs[baseline].training


def test_published_architectures_are_sampled_as_published() -> None:
    setting = study_of("architectures").settings("paper")[0]
    for name, arm in setting.arms.items():
        if name.endswith(", published"):
            assert arm.recipe is not None
            sampling = load_recipe(arm.recipe).sampling
            assert arm.sampling == {"solver": sampling.solver, "steps": sampling.steps}


@pytest.mark.parametrize("scale", ["small", "paper"])
def test_the_arms_of_the_size_grid_differ_in_the_gate_alone(scale: str) -> None:
    study = study_of("size-grid")
    for setting in study.settings(scale):
        baseline, *others = (job.recipe for job in jobs_of(study, setting, OUT, Choice(seeds=1)))
        for improved in others:
            assert differing(baseline, improved) == {"conditioning.controls"}
            for one, other in zip(baseline.conditioning.controls, improved.conditioning.controls, strict=True):
                assert one.model_dump(exclude={"gate"}) == other.model_dump(exclude={"gate"})
                assert (one.gate == other.gate) == (one.kind != "original_size")


def test_short_and_long_captions_are_trained_and_those_between_are_asked_for() -> None:
    (setting,) = (each for each in study_of("text-padding").settings("small") if each.name == "lengths")
    job = next(iter(jobs_of(study_of("text-padding"), setting, OUT, Choice(seeds=1))))
    source = job.recipe.data.source
    assert isinstance(source, ShapesConfig)
    trained, groups = set(source.caption_lengths), setting.protocol.by_length
    assert {1, 20} <= trained
    for name, words in groups.items():
        assert (set(words) <= trained) != ("untrained" in name)
        assert "untrained" not in name or trained.isdisjoint(words)
    assert {condition_of(each.metric)[1] for each in study_of("text-padding").expectations} - {""} <= {*groups, "t=0.95"}


def test_the_paper_scale_of_the_captions_is_ddpm_with_50_ddim_steps() -> None:
    recipe = load_recipe("imagenet256-mmdit-xl2-improved-ddpm")
    assert (recipe.process.schedule.kind, recipe.process.prediction) == ("linear", "eps")
    assert (recipe.sampling.solver, recipe.sampling.steps) == ("ddim", 50)
    apart = {name.split(".")[0] for name in differing(recipe, load_recipe("imagenet256-mmdit-xl2-improved"))}
    assert apart == {"process", "objective", "sampling"}


def test_the_cost_is_that_of_three_forward_passes() -> None:
    cost = cost_of(study_of("size-at-inference"), "paper", OUT, Choice(seeds=2))
    (arm,) = cost.arms  # one training serves all sizes
    assert arm.runs == 2 and arm.parameters > 1e9
    assert arm.flops == pytest.approx(2 * 3 * 2 * arm.gmacs * 1e9 * arm.samples)
    assert arm.gpu_hours == pytest.approx(arm.flops / SUSTAINED_TFLOPS / 1e12 / 3600)
    assert "Not run at this scale here" in cost.text() and "GPU hours" in cost.text()


@pytest.mark.parametrize("scale", ["tiny", "small"])
def test_what_is_run_here_is_told_in_time_on_this_machine(scale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("open_ldm.commands.plan.speed.matrix_speed", lambda machine: 1e11)
    monkeypatch.setattr("open_ldm.commands.plan.speed.remember_peak", lambda machine, speed: speed)
    cost = cost_of(study_of("size-grid"), scale, OUT, Choice())
    seconds = cost.flops / (0.3 * 1e11)
    assert (
        f"about {duration(seconds)} at 30 GFLOP/s, 30% of the matrix speed of cpu" in cost.text() and "GPU" not in cost.text()
    )
    told = cost.to_json()
    assert told["seconds"] == pytest.approx(seconds, abs=0.1) and told["flops_per_second"] == 0.3 * 1e11
    assert sum(arm["seconds"] for arm in told["arms"]) == pytest.approx(seconds, rel=0.01)
    assert "sustained_tflops" not in told and all("gpu_hours" not in arm for arm in told["arms"])


@pytest.mark.parametrize("study", DRAWN, ids=lambda study: study.name)
def test_figures_are_drawn(study: Study) -> None:
    assert study.figures is not None
    for figure in study.figures():
        assert len(figure.plot.series) > 1 and all(len(one.x) == len(one.y) for one in figure.plot.series)


def test_an_unknown_study_is_named() -> None:
    with pytest.raises(
        ConfigError, match=r"unknown study 'text-paddin'; needed: one that `ldm study list` lists .did you mean 'text-padding'"
    ):
        study_of("text-paddin")
