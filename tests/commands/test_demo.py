"""The demo from end to end, on models too small to learn anything; and when it has to say that a claim is wrong."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from open_ldm.checkpoints.names import samples_seen_of
from open_ldm.cli.main import main
from open_ldm.commands import devices
from open_ldm.commands.demo import FULL, QUICK, caption_groups, measure, run_demo
from open_ldm.commands.demo.captions import UNSEEN, untold_captions
from open_ldm.commands.demo.measure import ModelFindings
from open_ldm.commands.demo.page import next_commands, write_page
from open_ldm.commands.demo.run import DemoResult
from open_ldm.commands.demo.text import demo_text
from open_ldm.commands.demo.verdict import judge
from open_ldm.commands.demo.versions import BASELINE, IMPROVED, Version
from open_ldm.core.config import read_yaml
from open_ldm.core.errors import ConfigError, OpenLdmError
from open_ldm.core.overrides import last_given
from open_ldm.data.shape_words import HELD_OUT, shapes_in
from open_ldm.evaluation.bootstrap import BootstrapConfig, Estimate, estimate_share
from open_ldm.evaluation.shape_attributes import AgreementShares
from open_ldm.runs.recipe import load_recipe
from open_ldm.sources import open_source
from open_ldm.sources.shapes import ShapesConfig
from tests.started import Started

SMALL = [
    "training.samples=64",
    "training.batch_size=16",
    "training.checkpoint_every_samples=64",
    "training.log_every_samples=32",
    "denoiser.depth=1",
    "denoiser.width=32",
    "denoiser.heads=2",
    "denoiser.patch=8",
    "sampling.steps=2",
    "latent_stats.pictures=32",
    "training.optimizer.warmup_samples=0",
    "training.dtype=float32",
    "training.device=cpu",
]
FEW = replace(FULL, sizes_px=(12, 24, 48), pictures=16)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)


def make_quick(patch: pytest.MonkeyPatch) -> None:
    """Trainings start from the server that has imported everything, and the samples are compared with few real pictures."""
    patch.setattr(devices, "_started", forked)
    patch.setattr(measure, "_REAL_PICTURES", 300)


def forked(training: devices.Training, environment: Mapping[str, str]) -> Started:
    training.run.mkdir(parents=True, exist_ok=True)
    return Started("open_ldm", training.command[1:], environment, log=training.run / devices.LOG)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoResult:
    with pytest.MonkeyPatch.context() as patch:
        make_quick(patch)
        return run_demo(tmp_path_factory.mktemp("demo"), SMALL, silent=True, version=FEW)


def test_the_demo_writes_its_findings(demo: DemoResult) -> None:
    found = json.loads((demo.out / "demo.json").read_text())
    assert found["code"] == demo.code
    for name in (BASELINE, IMPROVED):
        assert (demo.out / name / "report.html").is_file()
        assert 0 <= found["models"][name]["content_change"]["value"] <= 1
    assert found["models"][BASELINE]["mirrored"] is None and found["models"][IMPROVED]["mirrored"]["pictures"] == FEW.pictures
    page = demo.page.read_text()
    assert page.count("data:image/png") == 2 * len(FEW.sizes_px) + 3 + 2
    assert all(claim.expected in page for claim in demo.claims)
    assert "In 80 % of them the size of the original goes with the colour, from red in the smallest" in page


@pytest.mark.parametrize("count", [1, 7, 15])
def test_the_page_shows_fewer_pictures_where_fewer_were_sampled(demo: DemoResult, count: int, tmp_path: Path) -> None:
    few = {
        name: replace(found, pixels={shown: pixels[:count] for shown, pixels in found.pixels.items()})
        for name, found in demo.findings.items()
    }
    drawings = load_recipe("demo-improved").data.source
    assert isinstance(drawings, ShapesConfig)
    write_page(tmp_path / "demo.html", drawings, few[BASELINE], few[IMPROVED], demo.claims, 1.0)
    assert (tmp_path / "demo.html").read_text().count("data:image/png") == 2 * len(FEW.sizes_px) + 3 + 2
    assert drawings.entangle is not None
    for entangle in (None, drawings.entangle.model_copy(update={"strength": 0.0})):
        independent = drawings.model_copy(update={"entangle": entangle, "told_too": False})
        write_page(tmp_path / "demo.html", independent, few[BASELINE], few[IMPROVED], demo.claims, 1.0)
        told = "The colour does not depend on the size of the original, and no caption says it."
        assert told in (tmp_path / "demo.html").read_text()


def test_a_demo_of_no_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="0 pictures for each number"):
        run_demo(tmp_path / "out", SMALL, version=replace(FEW, pictures=0))
    assert not (tmp_path / "out").exists()


def test_the_commands_it_names_run(demo: DemoResult) -> None:
    few = [f"metrics.{name}.pictures=2" for name in ("content_change", "control_effect")]
    for command, more in zip(
        next_commands(demo.out / IMPROVED, demo.findings[IMPROVED]), ([], few, ["--dry-run"]), strict=True
    ):
        assert command.split("--")[0].strip() in demo.page.read_text().replace("<span>", "").replace("</span>", "")
        with pytest.raises(SystemExit) as ended:
            main([*shlex.split(command)[1:], *more])
        assert ended.value.code == 0, command


def test_the_same_command_goes_on_and_finds_the_same(demo: DemoResult, quick: None) -> None:
    again = run_demo(demo.out, SMALL, silent=True, version=FEW)
    before, after = (result.to_json() | {"seconds": 0} for result in (demo, again))
    assert before == after
    events = (demo.out / IMPROVED / "events.jsonl").read_text()
    assert events.count('"event": "start"') == 1


@pytest.mark.parametrize("version", [FULL, QUICK], ids=["full", "quick"])
def test_both_models_see_the_same_drawings(version: Version) -> None:
    baseline, improved = [load_recipe(name, version.changes[model]) for model, name in version.recipes.items()]
    same = {"exclude": {"name", "conditioning"}}
    assert baseline.model_dump(**same) == improved.model_dump(**same)  # type: ignore[arg-type]


def test_a_demo_begun_under_an_earlier_edition_goes_on_with_that_for_both(
    tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where one model was not begun yet: two models of different drawings are not to be compared."""
    first = replace(FEW, recipes={BASELINE: "demo-entangled@1", IMPROVED: "demo-improved@1"})
    run_demo(tmp_path / "out", SMALL, silent=True, version=first)
    assert "begun under" not in capsys.readouterr().err
    shutil.rmtree(tmp_path / "out" / BASELINE)
    demo = run_demo(tmp_path / "out", SMALL, silent=True, version=FEW)
    note = f"note: {demo.out} was begun under edition 1 of demo-improved and goes on with that; another --out takes edition 2\n"
    assert capsys.readouterr().err.count(note) == 1
    for name in (BASELINE, IMPROVED):
        assert read_yaml(demo.out / name / "config.yaml").get("edition", 1) == 1
    assert "In 95 % of them" in demo.page.read_text()


def test_held_out_captions_are_never_trained_on() -> None:
    drawings = load_recipe("demo-improved").data.source
    assert isinstance(drawings, ShapesConfig)
    trained = set(open_source(drawings).captions())
    groups = caption_groups(drawings)
    assert not trained & set(groups[UNSEEN])
    assert {(shape.colour, shape.kind) for caption in groups[UNSEEN] for shape in shapes_in(caption)} == set(HELD_OUT)
    assert set(groups["one shape"]) <= trained
    assert set(untold_captions(drawings, 16)) <= trained
    assert not any(shape.colour for caption in untold_captions(drawings, 16) for shape in shapes_in(caption))


@pytest.mark.parametrize(
    ("recipe", "override", "message"),
    [
        ("emoji-mmdit", "preview.count=1", r"needs data\.source\.kind=shapes"),
        ("demo-improved", "data.source.told_too=false", "with and without the colour"),
        ("demo-improved", "conditioning.controls=[{kind: original_size}]", "flip"),
        ("demo-improved", "conditioning.controls=[{kind: flip}]", "size control"),
    ],
)
def test_recipes_that_lack_what_it_shows_are_refused(tmp_path: Path, recipe: str, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_demo(tmp_path, [override], version=replace(FULL, recipes={IMPROVED: recipe, BASELINE: recipe}))
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="the training would not fail")
def test_a_failed_training_is_told(tmp_path: Path, quick: None) -> None:
    with pytest.raises(OpenLdmError, match=r"training in .* failed: .*not available on this machine"):
        run_demo(tmp_path, [*SMALL[:-1], "training.device=cuda"], silent=True, version=FEW)


def test_a_demo_stopped_by_ctrl_c_has_saved_both_runs(tmp_path: Path) -> None:
    more = ["training.samples=200000", "training.checkpoint_every_samples=100000", "--out", str(tmp_path), "--json"]
    process = Started("tests.commands.demo_in_group", last_given([*SMALL, *more]))  # it starts its trainings as people's does
    deadline = time.monotonic() + 120
    logs = [tmp_path / name / "events.jsonl" for name in (BASELINE, IMPROVED)]
    while not all(log.is_file() and '"train"' in log.read_text() for log in logs):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    assert process.pid is not None
    os.killpg(process.pid, signal.SIGINT)  # as Ctrl+C on a terminal, which every process of the group receives
    process.communicate(timeout=120)
    assert process.returncode == 75
    for name in (BASELINE, IMPROVED):
        ended = json.loads((tmp_path / name / "exit.json").read_text())
        assert ended["code"] == 75
        newest = max((tmp_path / name / "checkpoints").iterdir())
        assert samples_seen_of(newest.name) == ended["samples_seen"] > 0


def share(hits: int, of: int = 64) -> Estimate:
    return estimate_share("share", torch.arange(of) < hits, BootstrapConfig())


def findings(change: int, effect: float, place: int, mirrored: int | None) -> ModelFindings:
    return ModelFindings(
        content_change=share(change),
        control_effect=Estimate("control_effect", effect, effect - 0.03, effect + 0.03, 64),
        place=share(place),
        mirrored=None if mirrored is None else share(mirrored),
        agreement={UNSEEN: AgreementShares(64, 1, 1, 1, 1, 1, 1)},
        pixels={},
    )


GOOD = (findings(60, 0.8, 32, None), findings(1, 0.5, 63, 62))


def test_good_findings_are_not_wrong() -> None:
    assert not any(claim.wrong for claim in judge(*GOOD))


@pytest.mark.parametrize(
    ("baseline", "improved", "wrong"),
    [
        (findings(20, 0.8, 32, None), GOOD[1], "entangled: the colour follows"),
        (GOOD[0], findings(30, 0.5, 63, 62), "improved: the colour stays"),
        (GOOD[0], findings(1, 0.02, 63, 62), "improved: the size still does"),
        (GOOD[0], findings(1, 0.5, 33, 62), "improved: left and right"),
        (GOOD[0], findings(1, 0.5, 63, 30), "improved: flip=1"),
    ],
)
def test_intervals_on_the_wrong_side_are_wrong(baseline: ModelFindings, improved: ModelFindings, wrong: str) -> None:
    (claim,) = [claim for claim in judge(baseline, improved) if claim.wrong]
    assert claim.expected.startswith(wrong)


def test_a_goal_narrowly_missed_is_not_wrong() -> None:
    narrow = (findings(30, 0.8, 32, None), findings(15, 0.09, 45, 45))
    assert not any(claim.wrong for claim in judge(*narrow))


def test_the_text_is_red_where_a_claim_is_wrong(demo: DemoResult) -> None:
    claims = judge(GOOD[0], findings(30, 0.5, 63, 62))
    result = replace(demo, claims=claims)
    assert "\x1b[31m  WRONG  improved: the colour stays" in demo_text(result, colour=True)
    assert "\x1b" not in demo_text(result)


def test_the_columns_of_the_text_end_where_their_titles_end(demo: DemoResult) -> None:
    """Also beside the longest title, that of the combinations never seen."""
    head, *rows = demo_text(demo).partition("\n\n")[0].lstrip("\n").splitlines()
    assert head.split() == list(demo.findings) and any(UNSEEN in row for row in rows)
    assert {len(row) for row in rows} == {len(head)}
