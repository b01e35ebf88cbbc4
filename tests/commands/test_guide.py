"""`ldm sample --guide`: autoguidance by another checkpoint of a run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from open_ldm.cli.main import main
from open_ldm.commands.guide import guided_run
from open_ldm.commands.sample import open_run, sample
from open_ldm.commands.sample_array import sample_array
from open_ldm.commands.sample_options import SampleOptions
from open_ldm.commands.samples import Samples
from open_ldm.controls.column_facts import ColumnFacts
from open_ldm.core.errors import ConfigError
from open_ldm.runs.recipe import load_recipe
from open_ldm.runs.train import train
from open_ldm.sampling.autoguidance import with_guide
from open_ldm.sampling.guidance import GuidanceConfig
from open_ldm.sampling.guidance import guided as led_away
from open_ldm.sampling.requests import SampleRequest
from tests.helpers import randn
from tests.runs.tiny import DENOISERS, tiny_recipe


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guide")
    changes = ["training.samples=32", "training.optimizer.learning_rate=0.02", "training.ema.decay=0.5", "preview.count=1"]
    recipe = load_recipe(str(tiny_recipe(folder)), [*DENOISERS["dit"], *changes, "conditioning.controls=[{kind: flip}]"])
    train(recipe, folder / "run", silent=True)
    return folder / "run"


def earlier(run: Path) -> Path:
    return run / "checkpoints" / "samples-000000000016"


def sampled(run: Path, **options: Any) -> Samples:
    asked = SampleOptions(count=2, steps=3, semantic_scale=2.0, **options)
    return sample(open_run(run), asked, silent=True)


def test_an_earlier_checkpoint_guides_and_is_named(run: Path, tmp_path: Path) -> None:
    plain = sampled(run).pixels.float()
    itself = sampled(run, guide=run, guide_scale=3.0)
    assert float((itself.pixels.float() - plain).abs().max()) <= 1  # a model leads nowhere from itself
    guided = sampled(run, guide=earlier(run), guide_scale=3.0)
    assert float((guided.pixels.float() - plain).abs().mean()) > 1
    content = json.loads((guided.save(tmp_path / "out").folder / "samples.json").read_text())
    assert content["guide"]["run"] == str(earlier(run)) and content["sampling"]["guidance"]["guide_scale"] == 3
    assert content["guide"]["weights"] != itself.guide["weights"]  # type: ignore[index]
    assert "guide" not in json.loads((sampled(run).save(tmp_path / "plain").folder / "samples.json").read_text())


def test_a_guide_may_predict_something_else(run: Path, tmp_path: Path) -> None:
    def guide(*changes: str) -> Path:
        shared = [*DENOISERS["dit"], "training.samples=16", "preview.count=1", "conditioning.controls=[{kind: flip}]"]
        out = tmp_path / changes[0]
        train(load_recipe(str(tiny_recipe(tmp_path)), [*shared, *changes]), out, silent=True)
        return out

    own = open_run(run)
    guided = guided_run(own, guide("process.prediction=x_0")).generator
    assert guided.guide is not None
    assert {guided.guide.spec.process.prediction, own.recipe.process.prediction} == {"x_0", "velocity"}
    known = own.known.facts.words or own.known.facts.class_names
    inputs = own.build_inputs([SampleRequest(0, known[0])])
    x_t = randn(1, guided.model.spec.facts.channels, *guided.latent_size)
    both = with_guide(guided.branches_of(inputs), guided.branches_of(inputs, model=guided.guide))
    found = led_away(both, GuidanceConfig(guide_scale=2.0), guided.model.schedule)(x_t, 0.6).x_0
    times = torch.full((1,), 0.6)
    with torch.no_grad():
        ours, theirs = (model.denoise(x_t, times, inputs).x_0 for model in (guided.model, guided.guide))
    assert float((ours - theirs).abs().mean()) > 0.01
    torch.testing.assert_close(found, theirs + 2 * (ours - theirs))
    with pytest.raises(ConfigError, match="another noise than"):
        guided_run(own, guide("process.schedule={kind: linear}", "process.prediction=eps", "objective.times={kind: uniform}"))


def test_an_array_of_a_guided_model_is_another_array(run: Path, tmp_path: Path) -> None:
    options = SampleOptions(count=2, steps=2, prompts=())
    prompts = {"prompts": tuple(open_run(run).known.facts.words[:1])}
    files = []
    for name, more in (("plain", {}), ("guided", {"guide": earlier(run), "guide_scale": 4.0})):
        made = sample_array(
            open_run(run), SampleOptions(**{**vars(options), **prompts, **more}), out=tmp_path / name, silent=True
        )
        files.append(np.load(made.file)["arr_0"])
    assert not np.array_equal(*files)
    with pytest.raises(ConfigError, match="other sampling settings"):
        sample_array(open_run(run), SampleOptions(**{**vars(options), **prompts}), out=tmp_path / "guided", silent=True)


def test_what_has_no_effect_or_no_guide_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no effect while its scale is 1; fix: add --guide-scale"):
        sampled(run, guide=earlier(run))
    with pytest.raises(ConfigError, match=r"--guide-scale 2 without a guide; needed: --guide RUN"):
        sampled(run, guide_scale=2.0)
    other = load_recipe(str(tiny_recipe(tmp_path)), [*DENOISERS["dit"], "training.samples=16", "conditioning.controls=[]"])
    train(other, tmp_path / "other", silent=True)
    with pytest.raises(ConfigError, match=r"another conditioning than .*needed: an earlier checkpoint"):
        guided_run(open_run(run), tmp_path / "other")
    opened = open_run(run)
    learned = opened.recipe.process.model_copy(update={"learned_variance": True})
    with pytest.raises(ConfigError, match="another setting of learned_variance than"):
        guided_run(replace(opened, recipe=opened.recipe.model_copy(update={"process": learned})), earlier(run))
    larger = replace(opened.known, facts=replace(opened.known.facts, latent_size=(64, 64)))
    with pytest.raises(ConfigError, match="another size of the latents than"):
        guided_run(replace(opened, known=larger), earlier(run))
    stain = ColumnFacts("stain", pictures=9, missing=0, words=("HE", "PAS"), usual="HE")
    view = replace(opened.known.facts.view, columns=(stain,))
    stained = replace(opened.known, facts=replace(opened.known.facts, view=view))
    with pytest.raises(ConfigError, match="another reading of metadata than"):  # it would take PAS for another stain
        guided_run(replace(opened, known=stained), earlier(run))


def test_the_command_takes_guide_and_rescale(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["sample", str(run), "--count", "1", "--steps", "2", "--guide", str(earlier(run)), "--guide-scale", "2"]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--rescale", "0.7", "--out", str(tmp_path / "out")])
    assert ended.value.code == 0
    sampling = json.loads((tmp_path / "out" / "samples.json").read_text())["sampling"]["guidance"]
    assert sampling["rescale"] == 0.7 and sampling["guide_scale"] == 2
    with pytest.raises(SystemExit):
        main(["sample", str(run), "--semantic-scale", "1", "--rescale", "0.7", "--out", str(tmp_path / "no")])
    assert "rescale has no effect" in capsys.readouterr().err


def test_a_recipe_cannot_ask_for_a_guide_on_its_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"guide_scale.*ldm sample --guide"):
        load_recipe(str(tiny_recipe(tmp_path)), ["sampling.guidance.guide_scale=2"])
