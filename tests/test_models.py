"""models/: what is shipped beside the code is whole, small, described, and is sampled from."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from benchmarks.pack_model import SUMS, sums_of

from open_ldm.commands.pack import size_of
from open_ldm.runs.load import load_model, load_run
from open_ldm.runs.recipe import load_recipe
from open_ldm.sampling.requests import SampleRequest

FOLDER = Path(__file__).parents[1] / "models"
MODELS = sorted(folder for folder in FOLDER.iterdir() if folder.is_dir())
MOST_BYTES = 25 * 2**20
each = pytest.mark.parametrize("model", MODELS, ids=[folder.name for folder in MODELS])


def test_together_they_are_small() -> None:
    assert MODELS and sum(size_of(folder / "checkpoints") for folder in MODELS) <= MOST_BYTES


def test_what_is_drawn_later_is_no_part_of_them(tmp_path: Path) -> None:
    for name in ("checkpoints/samples-1/ema.safetensors", "config.yaml", "drawn/0001/samples.json", "evaluation.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert [line.split()[1] for line in sums_of(tmp_path).splitlines()] == [
        "checkpoints/samples-1/ema.safetensors",
        "config.yaml",
    ]


@each
def test_its_files_are_those_whose_sums_it_has(model: Path) -> None:
    assert (model / SUMS).read_text(encoding="utf-8") == sums_of(model)


@each
def test_its_card_names_the_command_and_the_sum_of_its_weights(model: Path) -> None:
    card = (model / "README.md").read_text(encoding="utf-8")
    (weights,) = model.glob("checkpoints/*/ema.safetensors")
    assert f"ldm train {model.name}" in card
    line = next(line for line in (model / SUMS).read_text(encoding="utf-8").splitlines() if line.endswith(weights.name))
    assert line.split()[0] in card
    for picture in re.findall(r"\]\((\S+\.png)\)", card):
        assert (model / picture).resolve().is_file()


@each
def test_it_is_the_packaged_recipe_trained_to_its_end(model: Path) -> None:
    loaded, packaged = load_model(model, "cpu"), load_recipe(model.name)
    for block in ("conditioning", "process", "objective", "denoiser", "sampling"):
        assert getattr(loaded.recipe, block) == getattr(packaged, block)
    for block in ("source", "transform", "holdout"):
        assert getattr(loaded.recipe.data, block) == getattr(packaged.data, block)
    assert loaded.samples_seen == packaged.training.samples == loaded.recipe.training.samples


@each
def test_it_draws_a_picture(model: Path) -> None:
    run = load_run(model, "cpu")
    settings = run.recipe.sampling.model_copy(update={"steps": 2})
    shown = (run.known.facts.words or run.known.facts.class_names or (None,))[0]
    images = run.generator.images(run.build_inputs([SampleRequest(1, shown)]), [1], settings)
    size = (run.known.facts.view.height_px, run.known.facts.view.width_px)
    assert images.shape == (1, 3, *size) and bool(torch.isfinite(images).all())
