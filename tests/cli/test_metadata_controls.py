"""Columns of metadata as controls, from the file to the sample: surveyed, trained live and cached, asked for, measured."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

import open_ldm
from open_ldm.commands.dry_run import dry_run
from open_ldm.commands.fit_features import fit_features
from open_ldm.commands.sample import sample
from open_ldm.commands.sample_options import SampleOptions
from open_ldm.controls import Metadata
from open_ldm.core.events import read_events
from open_ldm.evaluation.features.classifier import ClassifierConfig, ClassifierExtractor
from open_ldm.evaluation.features.classifier_fit import FitConfig
from open_ldm.evaluation.features.small_network import SmallNetworkConfig
from open_ldm.evaluation.readers.column import ColumnReader
from open_ldm.runs.load import load_run
from open_ldm.runs.recipe import recipe_from
from open_ldm.sources.loader import open_data
from tests.cli.conftest import ldm
from tests.runs.tiny import TINY

CONTROLS = [
    {"kind": "metadata", "column": "magnification", "scale": "log"},
    {"kind": "metadata", "column": "stain", "values": "auto"},
    {"kind": "metadata", "column": "pixel size (um)", "name": "um"},
    {"kind": "flip"},
]
PICTURES = 24


def paint(folder: Path) -> Path:
    """Pictures brighter with the magnification and redder with HE; every third value of each column is blank."""
    folder.mkdir()
    numbers = np.random.default_rng(0)
    rows = [["path", "magnification", "stain", "pixel size (um)", "slide", "operator"]]
    for index in range(PICTURES):
        stain, magnification = ("HE", "PAS")[index % 2], 10 + index
        pixels = numbers.integers(0, 60, (16, 16, 3)) + 4 * magnification
        pixels[..., 0] += 60 * (stain == "HE")
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index:02}.png")
        values = [str(magnification), stain, f"{0.25 * (1 + index % 4)}"]
        values = ["" if (index + column) % 3 == 0 else value for column, value in enumerate(values)]
        rows.append([f"{index:02}.png", *values, f"S{index // 3}", "AB"])
    with (folder / "metadata.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def write_recipe(folder: Path, pictures: Path) -> Path:
    content = {
        **TINY,
        "data": {
            "source": {"kind": "folder", "path": str(pictures), "columns": {"file_name": "path"}},
            "holdout": {"share": 0.3, "by": "slide", "seed": 1},
            "transform": {"size_px": 16, "flip": 0.5},
            "views": 2,
            "workers": 0,
        },
        "conditioning": {"controls": CONTROLS},
        "training": {**TINY["training"], "samples": 16, "checkpoint_every_samples": 16},
        "held_out": {"every_samples": 16, "pictures": 4},
        "preview": {"count": 1},
        "sampling": {"steps": 2},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("metadata")
    return write_recipe(folder, paint(folder / "pictures"))


@pytest.fixture(scope="module")
def run(recipe: Path) -> Path:
    open_ldm.train(recipe, out=recipe.parent / "live", progress=False)
    return recipe.parent / "live"


def weights(run: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(max((run / "checkpoints").iterdir()) / "model.safetensors"))


def test_the_survey_and_the_first_screen_say_what_is_there(
    capsys: pytest.CaptureFixture[str], recipe: Path, tmp_path: Path
) -> None:
    _, out, _ = ldm(capsys, "data", "survey", recipe)
    assert "held out by slide: 6 groups to train on, 2 held out" in out
    assert "columns not used: operator; a control {kind: metadata, column: operator} reads one" in out
    assert "stain is missing for 8 of 24 pictures: for such ones the control is dropped" in out
    assert "training refuses" not in out
    code, out, _ = ldm(capsys, "data", "survey", recipe, "conditioning.controls.stain.column=dye")
    assert code == 0 and "warning: training refuses this: control dye: the data have no column 'dye'" in out
    code, _, screen = ldm(capsys, "train", recipe, "--out", tmp_path / "run", "training.samples=4")
    assert code == 0 and screen.count("columns not used: operator") == 1
    assert "train part of 24, by slide: 6 groups to train on, 2 held out" in screen
    assert "stain is missing for 6 of 18 pictures" in screen


def test_what_the_data_lack_is_refused_before_anything_is_built(
    capsys: pytest.CaptureFixture[str], recipe: Path, tmp_path: Path
) -> None:
    for wrong, said in (
        ("conditioning.controls.stain.column=dye", "no column 'dye'"),
        ("conditioning.controls.stain.column=operator", "column 'operator' is AB for all of 18 pictures"),
        ("data.holdout.by=patient", "data.holdout.by=patient: the data have no such column"),
    ):
        code, _, error = ldm(capsys, "train", recipe, wrong, "--out", tmp_path / "run")
        assert code == 2 and said in error and not (tmp_path / "run" / "checkpoints").exists()


def test_a_cache_trains_the_same_weights(recipe: Path, run: Path, tmp_path: Path) -> None:
    settings = {"cache": {"path": str(tmp_path / "cache")}}
    open_ldm.encode(recipe, settings, verify=True, progress=False)
    cached = open_ldm.train(recipe, settings, out=tmp_path / "cached", progress=False)
    ours, theirs = weights(run), weights(cached.path)
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    assert any("metadata:stain" in name for name in ours)


def test_a_run_goes_on_with_what_it_recorded(recipe: Path, tmp_path: Path) -> None:
    whole = open_ldm.train(recipe, "training.samples=12", out=tmp_path / "whole", progress=False)
    open_ldm.train(recipe, "training.samples=8", out=tmp_path / "halves", progress=False)
    halves = open_ldm.train(recipe, "training.samples=12", out=tmp_path / "halves", progress=False)
    resumed = next(event for event in read_events(halves.path / "events.jsonl") if event.name == "resume")
    assert resumed.text("bitwise") == "yes"
    ours, theirs = weights(whole.path), weights(halves.path)
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    text = (recipe.parent / "pictures" / "metadata.csv").read_text()
    grown = tmp_path / "grown"
    grown.mkdir()
    for picture in (recipe.parent / "pictures").glob("*.png"):
        (grown / picture.name).write_bytes(picture.read_bytes())
    (grown / "metadata.csv").write_text(text.replace(",HE,", ",GS,"))
    with pytest.raises(open_ldm.OpenLdmError, match="values that this run was not started with: GS"):
        open_ldm.train(recipe, f"data.source.path={grown}", "training.samples=16", out=halves.path, progress=False)


def test_it_is_asked_for_by_name(capsys: pytest.CaptureFixture[str], run: Path, tmp_path: Path) -> None:
    out = tmp_path / "pictures"
    code, _, _ = ldm(capsys, "sample", run, "magnification=20", "stain=PAS", "um=0.5", "--count", 2, "--out", out)
    content = json.loads((out / "samples.json").read_text())
    assert code == 0 and content["pictures"][0]["controls"] == {"magnification": "20", "stain": "PAS", "um": "0.5"}
    for wrong, said in (
        ("stain=pas", "stain='pas' is no value that the model knows; needed: one of HE, PAS (did you mean 'PAS'?)"),
        ("magnification=400", "is outside the range that training saw; needed: a number from"),
        ("pixel size (um)=0.5", "names no control of this model"),
        ("dye=HE", "needed: NAME=VALUE"),
        ("stain", "control stain has no value; needed: stain=VALUE"),
        ("sampling.steps=2", "fix: --steps 2"),
        ("sampling.guidance.semantic_scale=2", "fix: --semantic-scale 2"),
    ):
        code, _, error = ldm(capsys, "sample", run, wrong, "--count", 1, "--out", tmp_path / "wrong")
        assert code == 2 and said in error


def test_a_trained_control_changes_samples_and_an_open_one_is_dropped(run: Path) -> None:
    loaded = load_run(run)
    with torch.no_grad():
        for name, tensor in loaded.model.named_parameters():
            if "metadata" in name and (name.endswith("out.weight") or "table" in name):
                torch.nn.init.normal_(tensor, generator=torch.Generator().manual_seed(0))

    def made(**controls: str) -> torch.Tensor:
        return sample(loaded, SampleOptions(controls=controls, count=1), silent=True).pixels

    usual = made()
    median = next(facts for facts in loaded.known.facts.view.columns if facts.name == "magnification").median
    assert torch.equal(usual, made(magnification=f"{median:g}"))
    assert torch.equal(made(stain="HE"), made(stain="HE")) and not torch.equal(made(stain="HE"), made(stain="PAS"))
    assert not torch.equal(made(magnification="12"), made(magnification="30"))
    assert not torch.equal(made(stain=""), made(stain="HE")) and not torch.equal(made(um=""), usual)


def test_the_report_says_how_pictures_were_held_out(run: Path) -> None:
    report = (run / "report.html").read_text()
    assert "interval over 4 pictures, held out by slide: 6 groups to train on, 2 held out" in report
    assert "Unused" in report
    (event,) = [event for event in read_events(run / "events.jsonl") if event.name == "held_out"]
    assert event.text("groups") == "by slide: 6 groups to train on, 2 held out"


def test_it_is_measured(recipe: Path, run: Path, tmp_path: Path) -> None:
    """Every metric of controls takes a column; an untrained one has no influence, and its effect needs a reader of it."""
    metrics = [{"kind": kind, "control": "stain", "pictures": 2} for kind in ("control_influence", "control_effect")]
    metrics.append({"kind": "control_effect", "control": "magnification", "values": ["12", "30"], "pictures": 2})
    found = open_ldm.evaluate(
        run, metrics=metrics, extractors="random", n=2, out=tmp_path, controls={"um": 0.5}, cache=None, progress=False
    )
    assert [result.estimate.name for result in found.results] == ["control_influence"]
    assert "control_influence(stain=HE|PAS" in found.results[0].protocol.entries["metric"]
    assert found.results[0].protocol.entries["sampling.controls"] == "um=0.5"
    assert "needs a reader that was fitted on column" in found.refused["control_effect"]


def test_numbers_of_a_column_can_be_read_off_pictures(recipe: Path, run: Path, tmp_path: Path) -> None:
    network = SmallNetworkConfig(size_px=8, width=8, dim=8)
    config = FitConfig(network=network, pictures=240, batch_size=4, held_out=0.75, column="magnification", bins=3)
    data = {"kind": "folder", "path": str(recipe.parent / "pictures"), "columns": {"file_name": "path"}}
    whole = open_ldm.load_recipe({**TINY, "data": {"source": data, "transform": {"size_px": 16}}}).data
    folder = fit_features(whole, tmp_path / "reader", config, silent=True).folder
    extractor = ClassifierExtractor(ClassifierConfig(path=folder), torch.device("cpu"))
    assert extractor.column == "magnification" and len(extractor.class_names) == 3
    assert extractor.centres is not None and list(extractor.centres) == sorted(extractor.centres)
    reader = ColumnReader(extractor, Metadata(column="magnification", scale="log"))
    source = open_data(whole)
    pixels = torch.stack([torch.from_numpy(source[index].pixels.copy()).permute(2, 0, 1) for index in range(PICTURES)])
    found = reader.read(pixels)[:, 0].exp()
    assert found.shape == (PICTURES,) and found.min() >= min(extractor.centres) - 1e-6
    assert np.corrcoef(found.numpy(), np.arange(PICTURES))[0, 1] > 0.7
    assert reader.shown(torch.tensor([np.log(20.0)]), "20") == pytest.approx(20)


def test_the_recipe_of_the_how_to_is_complete() -> None:
    page = (Path(__file__).parents[2] / "docs" / "own-metadata.md").read_text(encoding="utf-8")
    content = yaml.safe_load(page.split("```yaml\n")[1].split("```")[0])
    made = dry_run(recipe_from(content, (), source="the how-to"))  # its pictures are not here, so columns are assumed
    assert [control.asked_as for control in made.recipe.conditioning.controls] == ["magnification", "stain", "exposure_ms"]
    assert made.parameters > 1_000_000
