"""A study from its first run to its page: two updates an arm."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from open_ldm.checkpoints.names import samples_seen_of
from open_ldm.core.errors import ConfigError, StoppedError
from open_ldm.core.overrides import require_given_once
from open_ldm.evaluation.features.classifier_fit import is_fitted
from open_ldm.runs.context import TrainingResult
from open_ldm.runs.recipe import load_recipe
from open_ldm.studies import run as studies_run
from open_ldm.studies.choice import Choice
from open_ldm.studies.found import METRICS, StudyFound
from open_ldm.studies.jobs import jobs_of
from open_ldm.studies.measure import read_strip
from open_ldm.studies.results import at, condition_of
from open_ldm.studies.run import Runner
from tests.run_folder.test_report import Page
from tests.studies.small import FIT, small_study, told


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("study")


def run(home: Path, *only: str, **changes: Any) -> StudyFound:
    choice = replace(Choice(only=only), **changes)
    return Runner(small_study(home), "tiny", home / "out", choice, ("ldm", "study", "small"), silent=True).run()


@pytest.fixture(scope="module")
def one_arm(home: Path) -> Mapping[str, object]:
    """What stands in study.json after one of the arms."""
    run(home, "constant")
    return told(home / "out")


@pytest.fixture(scope="module")
def both_and_page(home: Path, one_arm: object) -> tuple[StudyFound, str]:
    """After the second, too; with the page as it stood then, which later tests write anew."""
    return run(home, "constant", "late"), page(home)


@pytest.fixture(scope="module")
def both(both_and_page: tuple[StudyFound, str]) -> StudyFound:
    return both_and_page[0]


@pytest.fixture(scope="module")
def page_of_both(both_and_page: tuple[StudyFound, str]) -> str:
    return both_and_page[1]


def page(home: Path) -> str:
    return (home / "out" / "study.html").read_text()


def test_only_trains_the_arms_asked_for(home: Path, one_arm: Mapping[str, Any]) -> None:
    (setting,) = one_arm["settings"]
    assert list(setting["arms"]) == ["constant"] and one_arm["finished"] is True
    assert one_arm["findings"][0]["verdict"] == "not measured"
    assert "left out: late; late, size=8x8; carried on." in page(home)


def test_a_finished_arm_is_neither_trained_nor_measured_again(
    home: Path, both: StudyFound, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*given: object, **options: object) -> None:
        raise AssertionError("it was done before")

    monkeypatch.setattr(studies_run, "train", never)
    monkeypatch.setattr(studies_run.Evaluator, "measure", never)
    assert run(home, "constant", "late").settings == both.settings


def test_what_was_measured_before_stays_on_the_page_when_less_is_asked_for(
    home: Path, both: StudyFound, monkeypatch: pytest.MonkeyPatch
) -> None:
    (before,), (setting,) = both.settings, run(home, "late").settings
    assert sorted(each.arm for each in setting.measured) == sorted(each.arm for each in before.measured)
    assert setting.planned == setting.done == 1 and "of 0 runs" not in (home / "out" / "study.md").read_text()
    assert "left out: late, size=8x8; carried on." in page(home)
    with monkeypatch.context() as otherwise:
        otherwise.setattr(studies_run, "is_trained_as_now", lambda job: False)
        (alone,) = run(home, "late").settings
    assert {each.arm for each in alone.measured} == {"late"}
    run(home, "constant", "late")


def test_data_that_a_later_setting_lacks_are_missed_before_anything_is_trained(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = small_study(home)
    (setting,) = study.settings("tiny")
    away = replace(
        setting, name="photographs", changes=(*setting.changes, f"data.source={{kind: folder, path: {tmp_path}/no}}")
    )
    both = replace(study, scales={"tiny": [setting, away]})

    def never(*given: object, **options: object) -> None:
        raise AssertionError("it would not get to the end")

    monkeypatch.setattr(studies_run, "train", never)
    with pytest.raises(ConfigError, match=r"/no does not exist"):
        Runner(both, "tiny", tmp_path / "out", Choice(), silent=True).run()


def test_every_metric_is_measured_and_the_claim_stands_beside_the_finding(page_of_both: str, both: StudyFound) -> None:
    (setting,) = both.settings
    wanted = {"fid", "kid", "control_influence", "held_out_loss", "agreement", "attention_padding"}
    assert wanted <= set(setting.metrics)
    losses = [setting.summary("late", at("held_out_loss", level)) for level in setting.conditions["held_out_loss"]]
    mean = setting.summary("late", "held_out_loss")
    assert len(losses) == 10 and mean is not None
    assert sum(each.mean for each in losses if each is not None) / 10 == pytest.approx(mean.mean, rel=1e-6)
    assert "held-out loss by noise level" in page_of_both
    (finding,) = both.findings  # that of the CLIP score has no numbers
    one, other = (setting.summary(arm, "control_influence") for arm in ("late", "constant"))
    assert one is not None and other is not None and finding.difference is not None
    assert finding.difference.mean == pytest.approx(one.mean - other.mean)
    assert "A late gate lowers the influence &lt;of size&gt;." in page_of_both
    assert finding.text() in page_of_both and finding.verdict in page_of_both
    assert "ldm train" in Page(page_of_both).text and "data:image/png" in page_of_both and "<script" not in page_of_both
    assert {"shapes/constant-seed0/report.html", "shapes/late-seed0/report.html"} <= set(Page(page_of_both).links)


def test_what_another_recipe_trained_is_not_passed_off_as_this_ones(home: Path, both: StudyFound) -> None:
    with pytest.raises(
        ConfigError, match=r"constant-seed0 was started with .*conditioning.control_drop=0.1 \(now 0.3\).*--out"
    ):
        run(home, "constant", overrides=("conditioning.control_drop=0.3",))
    with pytest.raises(ConfigError, match=r"training\.samples=4, and run folder .* has seen 8 samples"):
        run(home, "constant", overrides=("training.samples=4",))


def test_a_last_batch_beyond_the_budget_is_no_longer_training(
    home: Path, both: StudyFound, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studies_run, "train", None)  # 8 are what 7 come to, in batches of 4
    assert run(home, "constant", overrides=("training.samples=7",)).finished


def test_what_another_recipe_trained_is_told_before_anything_is_trained(
    home: Path, both: StudyFound, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(studies_run, "train", None)
    first = home / "out" / "shapes" / "constant-seed0"
    away = first.rename(home / "away")
    try:
        with pytest.raises(ConfigError, match="late-seed0 was started with"):
            run(home, "constant", "late", overrides=("conditioning.control_drop=0.3",))
    finally:
        away.rename(first)


def test_commands_say_each_setting_once_and_that_of_the_user(tmp_path: Path) -> None:
    study = small_study(tmp_path)
    (setting,) = study.settings("tiny")
    for job in jobs_of(study, setting, tmp_path / "out", Choice(overrides=("training.samples=12", "data.holdout.share=0.3"))):
        require_given_once(job.command)
        assert "training.samples=12" in job.command and job.recipe.training.samples == 12
        assert job.recipe == load_recipe(job.command[2], job.command[3:-2])


def test_seeds_are_measured_at_the_same_points_whatever_stops_saved_in_between(tmp_path: Path) -> None:
    study = small_study(tmp_path)
    (setting,) = study.settings("tiny")
    setting = replace(setting, protocol=replace(setting.protocol, points=4))
    changes = ("training.samples=92",)
    job = next(jobs_of(study, setting, tmp_path / "out", Choice(overrides=changes)))
    assert job.recipe.training.keep_checkpoints >= 92 // 4 + 1  # none goes, however often it is stopped
    for seen in (0, 24, 28, 32, 48, 60, 72, 84, 92):
        (job.run / "checkpoints" / f"samples-{seen:012d}").mkdir(parents=True)
    runner = Runner(study, "tiny", tmp_path / "out", Choice(overrides=changes), silent=True)
    assert [samples_seen_of(path.name) for path in runner._models(setting, job)] == [24, 48, 72, 92]


def test_a_study_that_goes_on_keeps_what_it_measures_and_where_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = small_study(tmp_path)
    (setting,) = study.settings("tiny")
    setting = replace(setting, protocol=replace(setting.protocol, points=4))
    choice = Choice(("constant",), overrides=("training.samples=92", "data.holdout.share=0.3"))
    (job,) = jobs_of(study, setting, tmp_path / "out", choice)
    for seen in (0, 24, 28, 32, 48, 52, 60):
        (job.run / "checkpoints" / f"samples-{seen:012d}").mkdir(parents=True)
        (job.run / "checkpoints" / f"samples-{seen:012d}" / "MANIFEST.json").write_text("{}")
    monkeypatch.setattr(studies_run, "train", lambda *given, **_: TrainingResult(StoppedError.exit_code, job.run, 60, 1.0, 1.0))
    with pytest.raises(StoppedError):
        Runner(study, "tiny", tmp_path / "out", choice, silent=True)._train_and_measure(setting)
    left = sorted(samples_seen_of(each.name) for each in (job.run / "checkpoints").iterdir())
    assert left == [24, 48, 52, 60]  # the beginning and the stops at 28 and 32 are gone; of 52 and 60 one may be damaged


def test_a_signal_while_an_arm_is_measured_tells_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*given: object, **options: object) -> None:
        raise StoppedError("stopped by SIGTERM", fix="run the same command again")

    monkeypatch.setattr(studies_run, "train", lambda recipe, run, **_: TrainingResult(0, run, 8, 1.0, 1.0))
    monkeypatch.setattr(studies_run.Runner, "_models", lambda *given: [Path("samples-8")])
    monkeypatch.setattr(studies_run.Evaluator, "measure", stopped)
    with pytest.raises(StoppedError, match="stopped by SIGTERM; fix: go on with: ldm study small"):
        run(tmp_path, "constant")


def test_a_signal_while_features_are_fitted_tells_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*given: object, **options: object) -> None:
        raise StoppedError("stopped by SIGTERM and saved", fix="the same command goes on")

    monkeypatch.setattr(studies_run, "fit_features", stopped)
    with pytest.raises(StoppedError, match="stopped by SIGTERM and saved; fix: go on with: ldm study small"):
        run(tmp_path, "constant")


def test_features_are_fitted_again_where_their_settings_changed(home: Path, both: StudyFound) -> None:
    fitted = home / "out" / "shapes" / "features"
    assert is_fitted(fitted, FIT)
    assert not is_fitted(fitted, FIT.model_copy(update={"pictures": 65}))
    assert not is_fitted(fitted, FIT.model_copy(update={"network": FIT.network.model_copy(update={"dim": 9})}))
    assert not is_fitted(home, FIT)


def test_pictures_of_arms_have_the_same_prompts(home: Path, both: StudyFound) -> None:
    (setting,) = both.settings
    strips = [read_strip(folder / "shown.png") for folder in setting.folders.values()]
    assert strips[0] is not None and strips[1] is not None
    assert strips[0].words == strips[1].words and strips[0].pixels.shape == (2, 3, 16, 16)
    sweep = read_strip(setting.folders[("late", 0)] / "sweep-size.png")
    assert sweep is not None and sweep.columns == 2
    assert not (setting.folders[("late", 0)] / "sweep-hue.png").exists()  # the model knows no such control


def test_arms_that_differ_in_sampling_share_a_training_and_a_start_is_trained_first(home: Path, both: StudyFound) -> None:
    found = run(home, "late, size=8x8", "carried on")
    root = home / "out" / "shapes"
    assert not (root / "late-size-8x8-seed0" / "checkpoints").exists()
    assert (root / "from-before-seed0" / "checkpoints").is_dir()
    assert json.loads((root / "carried-on-seed0" / "transfer.json").read_text())
    shared = {each.arm: each.values["fid"] for each in found.settings[0].measured}
    assert {condition_of(name)[0] for each in found.settings[0].measured for name in each.values} <= set(METRICS)
    assert shared["late, size=8x8"].protocol != shared["carried on"].protocol  # the control is part of the protocol


def test_another_seed_goes_on_and_gives_intervals_over_seeds(home: Path, both: StudyFound) -> None:
    found = run(home, "constant", "late", seeds=2)
    summary = found.settings[0].summary("late", "held_out_loss")
    assert summary is not None and summary.count == 2 and summary.over == "seeds" and summary.spread is not None
    assert "over seeds" in page(home)


def test_a_stop_leaves_a_page_of_what_there_is(home: Path, both: StudyFound, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(recipe: object, out: Path, **options: object) -> TrainingResult:
        return TrainingResult(75, out, 4, 0.1, None)

    monkeypatch.setattr(studies_run, "train", stopped)
    done = len(both.settings[0].measured)
    with pytest.raises(StoppedError, match="go on with: ldm study small"):
        run(home, "constant", "late", seeds=3)
    assert told(home / "out")["finished"] is False
    ready = re.search(r"Not finished: (\d) of 6 runs", page(home))
    assert ready is not None and int(ready[1]) >= done == 2


def test_an_unknown_arm_or_scale_is_one_line() -> None:
    study = small_study(Path("/tmp"))
    with pytest.raises(ConfigError, match=r"has no arm or setting 'lat' at scale tiny; needed: .*did you mean 'late'"):
        Runner(study, "tiny", Path("nowhere"), Choice(("lat",)))
    with pytest.raises(ConfigError, match="has no scale 'huge'; needed: tiny"):
        Runner(study, "huge", Path("nowhere"), Choice())
