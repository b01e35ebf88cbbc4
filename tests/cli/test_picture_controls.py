"""Controls that read whole pictures, from the data to the sample: surveyed, refused, trained live and from a cache, sampled."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from open_ldm.runs.load import load_run
from open_ldm.sampling.requests import SampleRequest
from tests.cli.conftest import ldm
from tests.runs.tiny import TINY

CONTROLS = [{"kind": "colour"}, {"kind": "jpeg_quality"}, {"kind": "turn"}, {"kind": "flip"}]
PICTURES = 12


def paint(folder: Path, grey: bool = False) -> Path:
    """Pictures of noise, the later ones brighter, more saturated and better kept, the last one WebP; or PNG of one grey."""
    folder.mkdir()
    draws = np.random.default_rng(0)
    for index in range(PICTURES):
        noise = draws.integers(0, 256, (20, 20 + index, 3)) * (0.3 + 0.05 * index)
        pixels = np.full_like(noise, 128) if grey else noise
        suffix = "png" if grey else "webp" if index == PICTURES - 1 else "jpg"
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index:02}.{suffix}", quality=20 + 6 * index)
    return folder


def write_recipe(folder: Path, pictures: Path) -> Path:
    content = {
        **TINY,
        "data": {
            "source": {"kind": "folder", "path": str(pictures)},
            "transform": {"size_px": 16, "flip": 0.5, "turn": "quarter"},
            "views": 2,
            "workers": 0,
        },
        "conditioning": {"controls": CONTROLS},
        "training": {**TINY["training"], "samples": 16, "checkpoint_every_samples": 16},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    return write_recipe(folder, paint(folder / "photos"))


@pytest.fixture(scope="module")
def live_run(recipe: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(recipe.parent / "xdg"))
        from open_ldm.runs.recipe import load_recipe
        from open_ldm.runs.train import train

        assert train(load_recipe(str(recipe)), recipe.parent / "live", silent=True).code == 0
    return recipe.parent / "live"


def weights(run: Path) -> dict[str, torch.Tensor]:
    (checkpoint,) = (run / "checkpoints").iterdir()
    return dict(load_file(checkpoint / "model.safetensors"))


def test_a_survey_prints_the_ranges_of_a_recipes_controls(capsys: pytest.CaptureFixture[str], recipe: Path) -> None:
    _, out, _ = ldm(capsys, "data", "survey", recipe)
    assert "saturation" in out and "brightness" in out and "jpeg_quality" in out
    assert "warning: jpeg_quality is unknown for 1 of 12 pictures: for such ones the control is dropped" in out
    _, out, _ = ldm(capsys, "data", "survey", recipe, "--json")
    found = json.loads(out)
    assert 0 < found["brightness"]["smallest"] < found["brightness"]["largest"] < 100
    assert (found["jpeg_quality"]["smallest"], found["jpeg_quality"]["largest"]) == (20, 80)
    _, out, _ = ldm(capsys, "data", "survey", recipe, "conditioning.controls=[]", "--json")
    assert found.keys() - json.loads(out).keys() == {"saturation", "brightness", "jpeg_quality"}


def test_a_cache_trains_to_the_weights_of_live_reading(
    capsys: pytest.CaptureFixture[str], recipe: Path, live_run: Path, tmp_path: Path
) -> None:
    where = f"cache={{path: {tmp_path / 'cache'}}}"
    code, out, err = ldm(capsys, "encode", recipe, where, "--verify", "--entries", 0)
    assert code == 0, err
    assert "differ by 0 of" in out
    code, _, err = ldm(capsys, "train", recipe, where, "--out", tmp_path / "run")
    assert code == 0, err
    cached, live = weights(tmp_path / "run"), weights(live_run)
    assert cached.keys() == live.keys()
    assert all(torch.equal(cached[name], live[name]) for name in live)
    for kind in ("colour", "jpeg_quality", "turn"):
        assert live[f"conditioning.controls.{kind}.out.weight"].abs().sum() > 0
        assert all(torch.isfinite(tensor).all() for tensor in live.values())


def test_sampling_words_defaults_and_facts(capsys: pytest.CaptureFixture[str], live_run: Path, tmp_path: Path) -> None:
    words = ("quality=90", "turn=90", "flip=1")
    code, _, err = ldm(capsys, "sample", live_run, "colour=80,30", *words, "--count", 1, "--out", tmp_path)
    assert code == 0, err
    run = load_run(live_run)
    facts = run.known.facts
    assert facts.view.typical_saturation is not None and facts.view.typical_brightness is not None
    assert type(facts).from_json(json.loads(json.dumps(facts.to_json()))) == facts
    unsaid, said = run.build_inputs([SampleRequest(0), SampleRequest(0, controls={"colour": "80,30"})]).controls["colour"]
    typical = torch.tensor([facts.view.typical_saturation, facts.view.typical_brightness])
    assert torch.allclose(unsaid, 10 * typical)
    assert said.tolist() == [800, 300]
    requests = [SampleRequest(0), SampleRequest(0, controls={"quality": "35", "turn": "270"})]
    assert run.build_inputs(requests).controls["turn"].tolist() == [[0, 0], [1000, 1000]]
    assert run.build_inputs(requests).controls["jpeg_quality"].tolist() == [[1000], [350]]
    code, _, err = ldm(capsys, "sample", live_run, "colour=bright")
    assert code == 2 and "needed: colour=SATURATION,BRIGHTNESS in percent" in err


def test_what_the_data_cannot_teach_is_refused_before_anything_is_built(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    recipe = write_recipe(tmp_path, paint(tmp_path / "grey", grey=True))
    cases = [
        ("colour", "saturation is 0, brightness is 50.1961 for all 12 pictures"),
        ("jpeg_quality", "jpeg_quality is 100 for all 12 pictures"),
        ("turn", "data.transform.turn is none"),
    ]
    for kind, said in cases:
        settings = (recipe, f"conditioning.controls=[{{kind: {kind}}}]", "data.transform.turn=none")
        for command in (
            ("train", *settings, "--out", tmp_path / "run"),
            ("train", *settings, "--dry-run"),
            ("encode", *settings),
        ):
            code, _, err = ldm(capsys, *command)
            assert code == 2, err
            assert f"control {kind} has nothing to learn from: {said}" in err
            assert f"leave {{kind: {kind}}} out of conditioning.controls" in err
            assert err.strip().count("\n") == 0
    assert not (tmp_path / "run" / "checkpoints").exists()
