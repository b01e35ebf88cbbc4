"""Run folders from before `recipe_schema` go on as they began, and resolved recipes are read with the defaults of their day.

`begun_before/` holds half-trained runs of five denoisers, on live pixels and from a cache, written by the commit before gates
had a clock (an Intel Xeon with AVX-512, one thread), the pictures that commit sampled from them, and sums over the tensors it
finished with. Bits are compared only between two runs of this machine; with that commit's numbers only up to rounding.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from open_ldm.cli.main import main
from open_ldm.controls.gate import PowerCosineGate, gamma
from open_ldm.core.config import to_yaml
from open_ldm.run_folder.history import read_history
from open_ldm.run_folder.recipe_schema import SCHEMA
from open_ldm.run_folder.report.gates import gate_plots
from open_ldm.runs.catalogue import recipe_text
from open_ldm.runs.load import load_run
from open_ldm.runs.recipe import load_recipe, recipe_notes

BEGUN = Path(__file__).parent / "begun_before"
RUNS = sorted(path.name for path in BEGUN.iterdir())
ROUNDING = 2e-3
"""Eight updates of Adam multiply the rounding of one processor against another; between AVX2 and AVX-512: 7e-5 of a norm."""


@pytest.fixture(params=RUNS)
def begun(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of one of the folders, as the working folder."""
    shutil.copytree(BEGUN / request.param, tmp_path, dirs_exist_ok=True)
    return tmp_path


def ldm(*arguments: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code == 0


def newest(run: Path) -> Path:
    return max((run / "checkpoints").iterdir())


def expected(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "expected.json").read_text())
    return content


def test_it_samples_the_same_pictures(begun: Path) -> None:
    assert [control.gate.clock for control in load_run(Path("run")).recipe.conditioning.controls] == ["time"]
    ldm("sample", "run", *expected(begun)["sample_arguments"], "--out", "drawn")
    for number in range(2):
        ours = np.asarray(Image.open(f"drawn/{number:05d}.png"), dtype=np.int16)
        theirs = np.asarray(Image.open(f"sample-{number}.png"), dtype=np.int16)
        assert int(np.abs(ours - theirs).max()) <= 1


def test_it_finishes_as_it_began(begun: Path) -> None:
    recipe = yaml.safe_load(Path("recipe.yaml").read_text())
    (control,) = recipe["conditioning"]["controls"]
    control["gate"] = {"kind": "power_cosine", "alpha": 8.0, **control.get("gate", {}), "clock": "time"}
    Path("by_time.yaml").write_text(yaml.safe_dump(recipe))
    shutil.copytree("run", "twin")
    ldm("train", "recipe.yaml", "training.samples=64", "--out", "run")
    ldm("train", "by_time.yaml", "training.samples=64", "--out", "twin")
    wanted = expected(begun)["sum_and_norm"]
    for group in ("model", "ema", "optimizer"):
        ours, twin = (load_file(newest(Path(run)) / f"{group}.safetensors") for run in ("run", "twin"))
        assert all(ours[name].equal(twin[name]) for name in ours)
        total = sum(float(tensor.double().sum()) for tensor in ours.values())
        norm = sum(float(tensor.double().square().sum()) for tensor in ours.values()) ** 0.5
        assert [total, norm] == pytest.approx(wanted[group], rel=ROUNDING, abs=ROUNDING * wanted[group][1])
    events = [json.loads(line) for line in Path("run/events.jsonl").read_text().splitlines()]
    resumed = next(event for event in events if event["event"] == "resume")
    assert resumed["fingerprint"]["recipe"] == events[0]["fingerprint"]["recipe"]
    assert any("clock: time" in event.get("message", "") for event in events)
    assert yaml.safe_load(Path("run/config.yaml").read_text())["recipe_schema"] == SCHEMA


def test_a_new_run_of_the_same_recipe_gates_by_noise(begun: Path) -> None:
    recipe = load_recipe("recipe.yaml")
    assert [control.gate.clock for control in recipe.conditioning.controls] == ["noise_level"]
    assert load_recipe("run").conditioning.controls[0].gate.clock == "time"
    assert load_recipe("run/config.yaml").conditioning.controls[0].gate.clock == "time"


def test_the_report_draws_the_gate_of_its_day() -> None:
    over_time, over_noise = gate_plots(read_history(BEGUN / "mmdit-pixels" / "run"))
    assert over_time.series[0].name == "original size (power cosine α = 8 on t)"
    times = torch.linspace(0, 1, 201, dtype=torch.float64)
    assert over_time.series[0].y == over_noise.series[0].y == gamma(PowerCosineGate(), times).tolist()


def test_resolved_recipes_carry_their_schema(tmp_path: Path) -> None:
    recipe = load_recipe("demo")
    (tmp_path / "config.yaml").write_text(to_yaml(recipe))
    assert yaml.safe_load(to_yaml(recipe))["recipe_schema"] == SCHEMA
    assert load_recipe(str(tmp_path / "config.yaml")) == recipe


def test_stages_of_an_old_recipe_keep_their_gates(tmp_path: Path) -> None:
    content = yaml.safe_load(to_yaml(load_recipe("demo")))
    del content["recipe_schema"]
    for control in content["conditioning"]["controls"]:
        control["gate"].pop("clock", None)
    content["stages"] = [{"name": "later", "conditioning": {"controls": [{"kind": "original_size"}]}}]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    recipe = load_recipe(str(tmp_path / "config.yaml"))
    assert recipe.conditioning.controls[0].gate.clock == "time"
    assert recipe.stages[0]["conditioning"]["controls"][0]["gate"] == {"kind": "power_cosine", "alpha": 8.0, "clock": "time"}


@pytest.mark.parametrize(
    ("gate", "overrides", "told"),
    [
        ("{kind: power_cosine, alpha: 4}", (), ["original_size"]),
        ("{kind: power_cosine, alpha: 4, clock: time}", (), []),
        ("{kind: constant}", (), []),
        ("{kind: constant}", ("conditioning.controls.flip.gate={kind: cosine_power, alpha: 2}",), ["flip"]),
        ("{kind: constant}", ("conditioning.controls.flip.gate={kind: cosine_power, alpha: 2, clock: time}",), []),
    ],
)
def test_alpha_without_clock_is_told(tmp_path: Path, gate: str, overrides: tuple[str, ...], told: list[str]) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(
        "extends: demo\nconditioning: {semantic: {kind: text, encoder: {kind: words, length: 12, width: 128}}, "
        f"controls: [{{kind: original_size, gate: {gate}}}, {{kind: flip}}]}}\n"
    )
    assert [line.split()[3] for line in recipe_notes(str(own), overrides)] == told
    assert recipe_notes("demo") == []


def test_what_the_packaged_recipe_says_is_not_told_of_a_file_that_extends_it(tmp_path: Path) -> None:
    assert "alpha: 8}" in recipe_text("demo") and "clock" not in recipe_text("demo")
    (tmp_path / "own.yaml").write_text("extends: demo\nname: own\n")
    assert recipe_notes(str(tmp_path / "own.yaml")) == []
    gate = "{kind: power_cosine, alpha: 4}"
    controls = f"conditioning: {{semantic: {{kind: none}}, controls: [{{kind: original_size, gate: {gate}}}]}}"
    (tmp_path / "base.yaml").write_text(f"extends: demo\n{controls}\n")
    (tmp_path / "own.yaml").write_text("extends: base.yaml\nname: own\n")
    assert [line.split()[3] for line in recipe_notes(str(tmp_path / "own.yaml"))] == ["original_size"]


def test_of_several_columns_the_one_without_clock_is_named(tmp_path: Path) -> None:
    own, gate = tmp_path / "own.yaml", "{kind: power_cosine, alpha: 2}"
    controls = f"[{{kind: metadata, column: stain}}, {{kind: metadata, column: dose, gate: {gate}}}]"
    own.write_text(f"extends: photos-dit\nconditioning: {{semantic: {{kind: none}}, controls: {controls}}}\n")
    assert [line.split()[3] for line in recipe_notes(str(own))] == ["dose"]


def test_what_is_left_to_the_machine_is_as_today_for_a_new_run_of_a_stored_recipe(tmp_path: Path) -> None:
    """`auto` names no number format and no compiler; what it means is settled when a run begins, and stays with that run."""
    content = yaml.safe_load(to_yaml(load_recipe("demo")))
    assert not {"compile", "recompute"} & set(content["training"]) and content["training"]["dtype"] == "auto"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    stored = load_recipe(str(tmp_path / "config.yaml"))
    assert (stored.training.compile, stored.training.recompute) == ("auto", "none")
    chosen = load_recipe(str(tmp_path / "config.yaml"), ["training.compile=off", "training.dtype=float32"])
    assert chosen.numerics == stored.numerics
