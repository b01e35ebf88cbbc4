"""A recipe in stages: one command, runs that follow one another, killed and resumed like any other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from open_ldm.checkpoints.checkpoint import CheckpointFolder
from open_ldm.commands.dry_run import dry_run_stages, stages_text
from open_ldm.core.errors import ConfigError
from open_ldm.core.overrides import assignments
from open_ldm.denoisers.blocks.positions import ResampledPositions
from open_ldm.process.resolution import ResolutionConfig
from open_ldm.runs.context import TrainingResult
from open_ldm.runs.load import load_model
from open_ldm.runs.recipe import Recipe, load_recipe
from open_ldm.runs.stages import build_stages, plan_stages, train_stages
from open_ldm.runs.train import train
from open_ldm.transfer_learning.receipt import Receipt
from open_ldm.transfer_learning.start import Started
from tests import processes
from tests.run_folder.test_report import Page
from tests.runs.test_resume import finish, kill_at
from tests.runs.tiny import TINY, losses
from tests.started import start

STAGES: list[dict[str, Any]] = [
    {"name": "small", "training": {"samples": 16}},
    {
        "name": "large",
        "data": {"transform": {"size_px": 32, "crop": {"kind": "local", "scale_px": 40}}},
        "conditioning": {"semantic": {"kind": "class"}},
        "training": {"samples": 24, "optimizer": {"learning_rate": 0.002}},
    },
]


def recipe_file(folder: Path, stages: list[dict[str, Any]] | None = None) -> Path:
    path = folder / "staged.yaml"
    training = {**TINY["training"], "checkpoint_every_samples": 8}
    path.write_text(yaml.safe_dump({**TINY, "name": "staged", "training": training, "stages": stages or STAGES}))
    return path


def staged(folder: Path, *overrides: str, stages: list[dict[str, Any]] | None = None) -> Recipe:
    return load_recipe(str(recipe_file(folder, stages)), overrides)


def test_a_stage_lays_its_settings_over_the_recipe(tmp_path: Path) -> None:
    small, large = build_stages(staged(tmp_path, "training.batch_size=8", "stages.large.training.samples=48"), tmp_path / "run")
    assert (small.name, small.recipe.name, small.recipe.init_from) == ("small", "staged-small", None)
    assert small.folder.path == tmp_path / "run" / "stages" / "1-small"
    assert small.recipe.data.transform.size_px == 16 and large.recipe.data.transform.size_px == 32
    assert large.recipe.data.transform.crop.kind == "local" and large.recipe.data.transform.flip == 0.5
    assert large.recipe.conditioning.semantic.kind == "class"  # another kind starts from its own defaults
    assert large.recipe.training.optimizer.learning_rate == 0.002 and small.recipe.training.optimizer.learning_rate == 0.001
    assert small.recipe.training.batch_size == large.recipe.training.batch_size == 8
    assert (small.recipe.training.samples, large.recipe.training.samples) == (16, 48)
    assert large.recipe.init_from is not None and large.recipe.init_from.source == str(small.folder.path)


def test_a_stage_says_how_it_starts_or_that_it_does_not(tmp_path: Path) -> None:
    stages = [*STAGES, {"name": "again", "init_from": {"positions": "bicubic"}}, {"name": "anew", "init_from": None}]
    found = build_stages(staged(tmp_path, stages=stages), tmp_path)
    again = found[2].recipe.init_from
    assert again is not None and (again.positions, again.source) == ("bicubic", str(found[1].folder.path))
    assert found[3].recipe.init_from is None


def test_kinds_come_before_what_depends_on_them() -> None:
    settings = {"a": {"b": 1, "kind": "x", "c": {"kind": "y", "d": [1, {"e": 2}]}}, "f": {}, "g": None}
    assert assignments(settings) == ["a.kind=x", "a.b=1", "a.c.kind=y", 'a.c.d=[1, {"e": 2}]', "f={}", "g=null"]


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ([{"name": "a"}, {"name": "a"}], "two stages are named a"),
        ([{"training": {"samples": 8}}], "stage 1 has name None"),
        ([{"name": "../a"}], "stage 1 has name"),
        ([{"name": "a", "stages": []}], "has stages itself"),
        (
            [{"name": "a", "training": {"sample": 8}}],
            r"stage a: unknown key 'training.sample'; needed: one of .*did you mean 'samples'",
        ),
        ([{"name": "a"}, {"name": "b", "data": {"transform": {"size_px": 30}}}], "stage b: .*patches of 4"),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(tmp_path: Path, stages: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        train_stages(staged(tmp_path, stages=stages), tmp_path / "run", silent=True)
    assert not (tmp_path / "run").exists()


EVERY = [{**STAGES[0], "conditioning": {"semantic": {"kind": "class"}}}, STAGES[1]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("training.samples=64", r"training\.samples is set by every stage, .*; fix: stages\.small\.training\.samples=64 "),
        ("training={samples: 64, batch_size: 4, checkpoint_every_samples: 8}", r"training\.samples is set by every stage"),
        ("conditioning.semantic.kind=none", r"conditioning\.semantic\.kind is set by every stage"),
    ],
)
def test_a_setting_that_every_stage_states_is_not_changed_without_effect(tmp_path: Path, change: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        staged(tmp_path, "training.batch_size=8", change, stages=EVERY)
    assert caught.value.fix.endswith("(stages: small, large)")


def test_a_setting_that_some_stage_takes_is_changed(tmp_path: Path) -> None:
    small, large = build_stages(staged(tmp_path, "training.optimizer.learning_rate=0.5", "name=foo"), tmp_path)
    assert (small.recipe.training.optimizer.learning_rate, large.recipe.training.optimizer.learning_rate) == (0.5, 0.002)
    assert (small.recipe.name, large.recipe.name) == ("foo-small", "foo-large")
    staged(tmp_path, "stages.small.training.samples=64", "stages.large.training.samples=64", "denoiser.depth=3")


THREE = [
    {"name": "small"},
    {"name": "wide", "data": {"transform": {"size_px": [16, 32]}}},
    {"name": "large", "data": {"transform": {"size_px": 64}}, "conditioning": {"semantic": {"kind": "class"}}},
]


def test_a_dry_run_settles_every_stage_by_the_one_before(tmp_path: Path) -> None:
    stages = build_stages(staged(tmp_path, stages=THREE), tmp_path / "run")
    small, wide, large = dry_run_stages(stages)
    assert [run.recipe for run in (small, wide, large)] == plan_stages(stages)
    assert small.recipe == stages[0].recipe and small.start is None
    for run, to in ((wide, (16, 32)), (large, 64)):
        assert run.recipe.denoiser.positions == ResampledPositions(rows=4, columns=4)  # type: ignore[union-attr]
        assert run.recipe.process.resolution == ResolutionConfig(from_px=16, to_px=to)
    assert isinstance(wide.start, Started) and isinstance(large.start, Started)
    assert {entry.action for entry in wide.start.receipt.entries} == {"kept"}
    assert "latents.mean" not in large.start.settings and large.start.settings["data.transform.size_px"] == ([16, 32], 64)
    assert {entry.action for entry in large.start.receipt.entries} == {"kept", "new", "dropped"}
    last = stages_text(stages, [small, wide, large]).splitlines()[-1].split()
    assert last == ["#", "large", "96", "shapes", "64", "global", "class", "16", "resample"]
    assert not (tmp_path / "run").exists()


def test_a_dry_run_tells_what_training_will_do(run: Path, tmp_path: Path) -> None:
    planned_runs = dry_run_stages(build_stages(staged(tmp_path), tmp_path / "run"))
    start = planned_runs[1].start
    done = json.loads((run / "stages" / "2-large" / "transfer.json").read_text())
    assert isinstance(start, Started) and set(start.receipt.entries) == set(Receipt.from_json(done).entries)
    assert planned_runs[1].recipe.denoiser == load_model(run).recipe.denoiser


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["stages.wide.init_from.positions=bicubic"], r"stage large: .*no coordinates to resample.*positions=bicubic"),
        (["stages.large.init_from.positions=extrapolate"], r"stage large: .*cannot be extrapolated"),
        (["stages.large.process.resolution={from_px: 8, to_px: 64}"], r"stage large: process\.resolution=.* differs"),
    ],
)
def test_a_stage_that_cannot_follow_is_told_before_anything_is_trained(tmp_path: Path, changes: list[str], said: str) -> None:
    recipe = staged(tmp_path, *changes, stages=THREE)
    with pytest.raises(ConfigError, match=said) as caught:
        train_stages(recipe, tmp_path / "run", silent=True)
    assert "\n" not in caught.value.one_line() and not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match=said):
        dry_run_stages(build_stages(recipe, tmp_path / "run"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both stages trained."""
    folder = tmp_path_factory.mktemp("staged")
    result = train_stages(staged(folder), folder / "run", silent=True, command=["ldm", "train", "staged"])
    assert (result.code, result.samples_seen) == (0, 40)
    return folder / "run"


def test_both_stages_are_runs_and_the_whole_draws_from_the_last(run: Path) -> None:
    assert [CheckpointFolder(run / "stages" / name / "checkpoints").names()[0] for name in ("1-small", "2-large")] == [
        "samples-000000000016",
        "samples-000000000024",
    ]
    loaded = load_model(run)
    assert loaded.recipe.name == "staged-large" and loaded.recipe.data.transform.size_px == 32
    assert loaded.recipe.process.resolution == ResolutionConfig(from_px=16, to_px=32)
    transfer = json.loads((run / "stages" / "2-large" / "transfer.json").read_text())
    assert {tensor["action"] for tensor in transfer["tensors"]} == {"kept", "new", "dropped"}
    assert json.loads((run / "exit.json").read_text()) == {
        "code": 0,
        "reason": "all stages done",
        "samples_seen": 40,
        "hint": "",
        "stages": [
            {"name": "small", "samples_seen": 16, "samples": 16, "state": "finished"},
            {"name": "large", "samples_seen": 24, "samples": 24, "state": "finished"},
        ],
    }


def test_the_report_shows_all_stages_on_one_axis(run: Path) -> None:
    text = (run / "report.html").read_text()
    page = Page(text)
    for words in (
        "Stage small",
        "Stage large",
        "stages/2-large/report.html",
        "Settings that differ",
        "semantic condition text -> class",
    ):
        assert words in text.replace("&gt;", ">"), words
    assert all(link.startswith("data:image/png;base64,") for link in page.pictures) and "script" not in page.tags
    files = [link for link in page.links if not link.startswith("#")]
    assert {"stages/1-small/report.html", "stages/2-large/report.html", "config.yaml"} <= set(files)
    assert all((run / file).exists() for file in files)
    assert "stage large begins" in text and "40" in page.text
    own = (run / "stages" / "2-large" / "report.html").read_text()
    assert 'href="../../report.html"' in own
    assert "Where it started" in own and "Where it started" not in (run / "stages" / "1-small" / "report.html").read_text()


def test_a_finished_plan_ends_at_once_and_its_config_is_a_recipe(run: Path) -> None:
    before = [losses(run / "stages" / name) for name in ("1-small", "2-large")]
    again = train_stages(load_recipe(str(run)), run, silent=True)
    assert (again.code, again.samples_seen, again.seconds) == (0, 40, 0.0)
    assert [losses(run / "stages" / name) for name in ("1-small", "2-large")] == before


def test_a_stage_that_fails_is_named(tmp_path: Path) -> None:
    stages = [STAGES[0], {"name": "deeper", "denoiser": {"depth": 3}}]
    with pytest.raises(ConfigError, match="--allow"):
        train_stages(staged(tmp_path, "training.samples=16", stages=stages), tmp_path / "run", silent=True)
    ended = json.loads((tmp_path / "run" / "exit.json").read_text())
    assert ended["code"] == 2 and ended["reason"].startswith("stage deeper: ") and ended["samples_seen"] == 16
    assert [stage["state"] for stage in ended["stages"]] == ["finished", "stopped, exit code 2"]
    text = Page((tmp_path / "run" / "report.html").read_text()).text
    assert "stopped, exit code 2" in text and "stage deeper: " in text and "1 of 2" in text


@pytest.mark.parametrize(("error", "code"), [(MemoryError("no room"), 71), (KeyboardInterrupt(), 130)])
def test_whatever_ends_a_stage_is_told_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    def failing(recipe: Recipe, out: Path, **more: Any) -> TrainingResult:
        if out.name == "2-large":
            assert not (tmp_path / "run" / "exit.json").exists() and "running" in Page(whole.read_text()).text
            raise error
        return train(recipe, out, **more)

    whole = tmp_path / "run" / "report.html"
    monkeypatch.setattr("open_ldm.runs.stages.train", failing)
    with pytest.raises(type(error)):
        train_stages(staged(tmp_path), tmp_path / "run", silent=True)
    ended = json.loads((tmp_path / "run" / "exit.json").read_text())
    assert (ended["code"], ended["samples_seen"]) == (code, 16)
    assert ended["reason"].startswith(f"stage large: {type(error).__name__}") and "running" not in Page(whole.read_text()).text
    monkeypatch.undo()
    assert train_stages(staged(tmp_path), tmp_path / "run", silent=True).code == 0
    assert json.loads((tmp_path / "run" / "exit.json").read_text())["code"] == 0


@pytest.mark.charts
@pytest.mark.parametrize(("schema", "order"), [(2, {"kind": "global"}), (3, None)])
def test_stages_to_come_keep_the_order_of_a_run_from_before_there_was_a_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schema: int, order: dict[str, str] | None
) -> None:
    recipe, seen = staged(tmp_path), []
    out = tmp_path / "run"
    out.mkdir()
    (out / "config.yaml").write_text(yaml.safe_dump({**recipe.model_dump(mode="json"), "recipe_schema": schema}))

    def stopped(recipe: Recipe, *given: Any, **also: Any) -> TrainingResult:
        seen.append(recipe.data.order)
        raise KeyboardInterrupt

    monkeypatch.setattr("open_ldm.runs.stages.train", stopped)
    for _ in range(2):  # the first one writes config.yaml anew
        with pytest.raises(KeyboardInterrupt):
            train_stages(recipe, out, silent=True)
    assert [each and each.model_dump() for each in seen] == [order, order]


def test_held_out_losses_stand_on_one_axis(tmp_path: Path) -> None:
    held_out = ["data.holdout={share: 0.2}", "held_out={every_samples: 8, pictures: 4}"]
    train_stages(staged(tmp_path, *held_out), tmp_path / "run", silent=True)
    text = (tmp_path / "run" / "report.html").read_text()
    assert "Held-out loss of all stages" in text and text.count("stage large begins") == 4  # two plots, wide and narrow


def test_another_plan_needs_another_folder(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    renamed = [{**STAGES[0], "name": "tiny"}, STAGES[1]]
    with pytest.raises(ConfigError, match="was started with stage 1-small"):
        train_stages(staged(tmp_path, stages=renamed), copy, silent=True)
    before = {name: (copy / name).read_text() for name in ("config.yaml", "exit.json", "report.html")}
    with pytest.raises(ConfigError, match=r"stage small: .*training\.batch_size"):
        train_stages(staged(tmp_path, "training.batch_size=8"), copy, silent=True)
    assert {name: (copy / name).read_text() for name in before} == before  # a refusal leaves all as it was
    with pytest.raises(ConfigError, match="holds a run without stages"):
        train_stages(staged(tmp_path), copy / "stages" / "1-small", silent=True)
    with pytest.raises(ConfigError, match="has stages"):
        train(staged(tmp_path), tmp_path / "other", silent=True)
    # Moved as a whole it goes on all the same: what a stage starts from is known by its weights, not by its path.
    longer = staged(tmp_path, "stages.large.training.samples=32")
    assert train_stages(longer, copy, silent=True).samples_seen == 48


def damaged(checkpoint: Path) -> None:
    """Change one byte of its averaged weights."""
    path = checkpoint / "ema.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def hashes(run: Path, stage: str, samples: int) -> dict[str, str]:
    manifest = json.loads((run / "stages" / stage / f"checkpoints/samples-{samples:012d}/MANIFEST.json").read_text())
    return {name: file["sha256"] for name, file in manifest["files"].items()}


def test_a_stage_is_not_lengthened_once_another_has_started_from_it(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    longer = staged(tmp_path, "stages.small.training.samples=32")
    with pytest.raises(
        ConfigError, match=r"stage small would go on from 16 to 32 samples, but stage large has started"
    ) as caught:
        train_stages(longer, copy, silent=True)
    assert caught.value.fix.startswith("set stages.small.training.samples=16")
    assert CheckpointFolder(copy / "stages" / "1-small" / "checkpoints").names()[0] == "samples-000000000016"
    shutil.rmtree(copy / "stages" / "2-large" / "checkpoints")  # nothing has started from it: it may
    assert train_stages(longer, copy, silent=True).samples_seen == 56
    transfer = json.loads((copy / "stages" / "2-large" / "transfer.json").read_text())
    assert transfer["source"]["checkpoint"] == "samples-000000000032"


def test_a_stage_that_is_gone_is_not_trained_again_for_nothing(tmp_path: Path) -> None:
    whole = tmp_path / "run"
    train_stages(staged(tmp_path), whole, silent=True)
    shutil.rmtree(whole / "stages" / "1-small")
    assert train_stages(staged(tmp_path, "stages.large.training.samples=32"), whole, silent=True).samples_seen == 48
    assert not (whole / "stages" / "1-small").exists()
    ended = json.loads((whole / "exit.json").read_text())
    assert ended["samples_seen"] == 48 and ended["stages"][0]["state"] == "removed"


def test_a_run_that_moves_needs_the_stages_before_no_more(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    longer = staged(tmp_path, "stages.large.training.samples=32")
    moved = Path(shutil.copytree(run, tmp_path / "moved"))
    shutil.rmtree(moved / "stages" / "1-small")
    assert train_stages(longer, moved, silent=True).samples_seen == 48
    monkeypatch.chdir(tmp_path)
    longer = staged(tmp_path, "stages.large.training.samples=40")
    assert train_stages(longer, Path("moved"), silent=True).samples_seen == 56  # the same place in other words
    assert not (moved / "stages" / "1-small").exists()
    other = longer.model_copy(update={"stages": (longer.stages[0], {**longer.stages[1], "init_from": {"source": "elsewhere"}})})
    with pytest.raises(ConfigError, match=r"stage large: .* was started from .*1-small, not from elsewhere; fix: leave"):
        train_stages(other, moved, silent=True)


def test_stages_that_are_gone_are_needed_no_more_however_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    three = [STAGES[0], {"name": "middle"}, {"name": "last"}]
    recipe = staged(tmp_path, "training.samples=8", "stages.small.training.samples=8", stages=three)
    train_stages(recipe, tmp_path / "run", silent=True)
    for name in ("1-small", "2-middle"):
        shutil.rmtree(tmp_path / "run" / "stages" / name)
    monkeypatch.setattr("open_ldm.runs.stages.train", lambda *given, **more: pytest.fail("a stage was trained again"))
    assert train_stages(recipe, tmp_path / "run", silent=True).samples_seen == 24


def test_no_stage_starts_from_an_older_checkpoint_than_the_last_one(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(copy / "stages" / "2-large")
    damaged(copy / "stages" / "1-small" / "checkpoints" / "samples-000000000016")
    assert train_stages(staged(tmp_path), copy, silent=True).samples_seen == 40
    for stage, end in (("1-small", 16), ("2-large", 24)):
        assert hashes(copy, stage, end) == hashes(run, stage, end)


def test_a_stage_killed_behind_its_last_checkpoint_still_gets_its_report(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(copy / "stages" / "2-large")
    (copy / "stages" / "1-small" / "report.html").unlink()
    assert train_stages(staged(tmp_path), copy, silent=True).samples_seen == 40
    assert (copy / "stages" / "1-small" / "report.html").is_file()
    for stage, end in (("1-small", 16), ("2-large", 24)):
        assert hashes(copy, stage, end) == hashes(run, stage, end)


@pytest.mark.timeout(600)
def test_kills_between_two_stages_change_nothing(run: Path, tmp_path: Path) -> None:
    places = ["stage change", "first receipt", "first save", "rename", "first update"]
    given = [str(recipe_file(tmp_path)), str(tmp_path / "broken"), *places, "--"]
    processes.finish([processes.Started("tests.runs.killed_at", given)])
    for stage, end in (("1-small", 16), ("2-large", 24)):
        assert losses(tmp_path / "broken" / "stages" / stage) == losses(run / "stages" / stage)
        assert hashes(tmp_path / "broken", stage, end) == hashes(run, stage, end)


@pytest.mark.timeout(900)
def test_kills_in_either_stage_change_nothing(tmp_path: Path, run: Path) -> None:
    arguments = ["train", str(recipe_file(tmp_path)), "--out", str(tmp_path / "broken")]
    killed = 0
    for stage, mark in (("1-small", 8), ("2-large", 12)):
        process = start(arguments)
        killed += kill_at(process, tmp_path / "broken" / "stages" / stage, mark)
        process.communicate()
    finish(arguments)
    assert killed == 2
    for stage, end in (("1-small", 16), ("2-large", 24)):
        pair = [folder / "stages" / stage for folder in (tmp_path / "broken", run)]
        assert losses(pair[0]) == losses(pair[1])
        assert hashes(tmp_path / "broken", stage, end) == hashes(run, stage, end)
