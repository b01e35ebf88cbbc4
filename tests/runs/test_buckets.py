"""A run in buckets: killed and resumed bit-equal, the same from a cache, sampled at each of its shapes and at no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from open_ldm.cli.main import main
from open_ldm.commands.dry_run import dry_run
from open_ldm.commands.evaluate.config import EvaluationConfig
from open_ldm.commands.evaluate.pictures import SampledPictures, open_evaluated
from open_ldm.commands.sample import sample
from open_ldm.commands.sample_options import SampleOptions
from open_ldm.core.config import parse_yaml
from open_ldm.core.distributed import World
from open_ldm.core.errors import ConfigError
from open_ldm.core.events import read_events
from open_ldm.runs.autoencoder.recipe import load_autoencoder_recipe
from open_ldm.runs.encoders import Encoders
from open_ldm.runs.held_out import HeldOutPictures
from open_ldm.runs.load import LoadedRun, load_run
from open_ldm.runs.memory import most_held
from open_ldm.runs.recipe import Recipe, load_recipe
from open_ldm.runs.train import train
from open_ldm.sampling.requests import SampleRequest
from open_ldm.sources.loader import open_data
from tests.runs.test_resume import kill_at
from tests.runs.tiny import DENOISERS, losses, tiny_recipe
from tests.started import start

SAMPLES = 24
BUCKETS = [
    "data.transform.buckets={}",
    "data.source.longest_aspect=3",
    "data.source.short_side_px=[16,40]",
    "data.holdout={share: 0.3}",
    "data.views=2",
    f"held_out={{every_samples: {SAMPLES}}}",
    f"training.samples={SAMPLES}",
    "training.checkpoint_every_samples=8",
    f"training.preview_every_samples={SAMPLES}",
]
SHAPES = {(16, 16), (20, 12), (12, 20)}


def recipe(folder: Path, *changes: str) -> Recipe:
    return load_recipe(str(tiny_recipe(folder)), [*BUCKETS, *changes])


def ended(arguments: list[str]) -> object:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as left:
        main(arguments)
    return left.value.code


def hashes(run: Path) -> dict[str, str]:
    manifest = json.loads((run / "checkpoints" / f"samples-{SAMPLES:012d}" / "MANIFEST.json").read_text())
    return {name: described["sha256"] for name, described in manifest["files"].items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never interrupted, from pictures."""
    folder = tmp_path_factory.mktemp("whole")
    train(recipe(folder), folder / "run", silent=True)
    return folder / "run"


def test_a_killed_run_from_a_cache_ends_as_one_from_pictures(whole: Path, tmp_path: Path) -> None:
    path = tiny_recipe(tmp_path)
    process = start(["train", str(path), *BUCKETS, f"cache.path={tmp_path / 'cache'}", "--out", str(tmp_path / "run")])
    assert kill_at(process, tmp_path / "run", 12)
    train(recipe(tmp_path, f"cache.path={tmp_path / 'cache'}", "data.workers=2"), tmp_path / "run", silent=True)
    (resume,) = [event for event in read_events(tmp_path / "run" / "events.jsonl") if event.name == "resume"]
    assert resume.text("bitwise") == "yes"
    assert losses(tmp_path / "run") == losses(whole) and len(losses(whole)) == SAMPLES // 4
    assert hashes(tmp_path / "run") == hashes(whole)


def test_the_run_tells_of_its_buckets(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads((whole / "data.json").read_text())["survey"]
    assert set(told["buckets"]) == {"16x16", "20x12", "12x20"} and sum(told["buckets"].values()) > 30
    assert 0 < told["thrown_away"] < told["thrown_away_by_one_shape"]
    held_out = next(event for event in read_events(whole / "events.jsonl") if event.name == "held_out")
    assert set(held_out.fields["by_shape"]) == set(told["buckets"])
    preview = next(event for event in read_events(whole / "events.jsonl") if event.name == "preview")
    assert (whole / str(preview.fields["file"])).is_file()
    assert ended(["data", "survey", str(whole)]) == 0
    shown = capsys.readouterr().out
    assert "3 of 3 buckets are used, 20x12 to 12x20 px" in shown and "% of a picture's pixels are thrown away" in shown
    assert parse_yaml((whole / "config.yaml").read_text(), "")["data"]["transform"]["buckets"]["step_px"] is None


def test_it_samples_each_of_its_shapes(whole: Path, tmp_path: Path) -> None:
    run = load_run(whole, "cpu")
    assert set(run.shapes) == SHAPES == set(run.known.facts.view.shapes) and run.shapes[0] == (16, 16)
    for options, shape in [
        ({}, (16, 16)),
        ({"view_size": "20x12"}, (20, 12)),
        ({"aspect": "5:3"}, (12, 20)),
        ({"aspect": "3:5"}, (20, 12)),
    ]:
        made = sample(run, SampleOptions(("a red circle",), count=1, steps=2, **options), silent=True)
        assert made.pixels.shape == (1, 3, *shape)
    wide = run.of_shape((12, 20)).build_inputs([SampleRequest(0, "a red circle")])
    height, width = wide.controls["original_size"][0]
    assert wide.controls["aspect_ratio"][0, 0] > 70 and float(width / height) == pytest.approx(20 / 12)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--size", "16x32"], "this model was not trained on pictures of 16x32 px; needed: one of 20x12, 16x16, 12x20"),
        (["--aspect", "3:1"], "this model was trained on no shape near 3:1; needed: --size out of 20x12, 16x16, 12x20"),
        (["--size", "wide"], "--size 'wide' cannot be read; needed: HEIGHTxWIDTH in pixels: 20x12, 16x16, 12x20"),
        (["--aspect", "0:1"], "--aspect '0:1' cannot be read; needed: WIDTH:HEIGHT, such as 2:1"),
        (["--aspect", "1:1", "--size", "16x16"], "--size and --aspect were given; needed: one of them"),
    ],
)
def test_other_shapes_are_refused_in_one_line(
    options: list[str], why: str, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(["sample", str(whole), *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert why in line and len(line) < 300


def test_it_is_evaluated_one_shape_at_a_time(whole: Path) -> None:
    def opened(size: tuple[int, int] | None) -> SampledPictures:
        config = EvaluationConfig(metrics=("kid",), n=2, size_px=size, sampling={"steps": 2})  # type: ignore[arg-type]
        pictures = open_evaluated(whole, config, None, "train", "cpu")
        assert isinstance(pictures, SampledPictures)
        return pictures

    tall, usual = opened((20, 12)), opened(None)
    assert tall.size_px == tall.pixels([0]).shape[2:] == (20, 12) and usual.size_px == (16, 16)
    whole_part = open_data(tall.run.recipe.data)
    assert 0 < len(tall.data) < len(whole_part) and len(usual.data) < len(whole_part)
    assert all(height > 1.25 * width for height, width in map(tall.data.size_of, range(len(tall.data))))
    with pytest.raises(ConfigError, match="not trained on pictures of 32x32 px"):
        opened((32, 32))
    held_out = HeldOutPictures(tall.run.recipe, tall.run.known, encoders_of(tall.run), 64, World()).loss(tall.run.model)
    assert set(held_out.by_shape) == {"16x16", "20x12", "12x20"}
    assert min(held_out.by_shape.values()) < held_out.mean.value < max(held_out.by_shape.values())


def encoders_of(run: LoadedRun) -> Encoders:
    return Encoders(run.generator.autoencoder, run.text_encoder, run.machine)


def test_a_plan_counts_the_shape_that_keeps_most(tmp_path: Path) -> None:
    run = dry_run(recipe(tmp_path, *DENOISERS["mdtv2"]))  # whose tables are resized for all shapes but the square
    by_shape = [most_held(run.recipe, run.facts, 1, torch.float32, shape) for shape in run.recipe.transform.shapes]
    assert most_held(run.recipe, run.facts, 1, torch.float32) == max(by_shape) > min(by_shape)


def test_steps_are_those_of_autoencoder_and_patches(tmp_path: Path) -> None:
    assert recipe(tmp_path, "denoiser.patch=2", "data.transform.size_px=32").transform.shapes[0] == (50, 20)
    with pytest.raises(ConfigError, match="step_px=2; needed: a multiple of 4, which latents and patches need"):
        recipe(tmp_path, "data.transform.buckets={step_px: 2}")
    with pytest.raises(ConfigError, match="buckets is for denoisers; an autoencoder takes any shape; needed: null"):
        load_autoencoder_recipe("photos-autoencoder", ["data.transform.buckets={}", "data.transform.crop={kind: center}"])
    with pytest.raises(ConfigError, match="5 tokens a side do not fit a position table of 4"):
        recipe(tmp_path, *DENOISERS["dit"], "denoiser.positions={kind: stored, rows: 4, columns: 4}")
