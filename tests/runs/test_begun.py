"""A run goes on with the settings that its manifests hold, whatever became of config.yaml."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from open_ldm.api import verbs
from open_ldm.checkpoints.files import MANIFEST, MANIFEST_SHA256
from open_ldm.core.errors import CheckpointError, ConfigError
from open_ldm.core.hashes import hash_content
from open_ldm.runs.load import load_model
from open_ldm.runs.recipe import load_recipe
from open_ldm.runs.train import train
from tests.runs.tiny import last_seen, tiny_recipe

SHALLOW = ("denoiser.depth=1", "latent_stats.pictures=4")
SHORT = ("training.samples=16", "preview.count=1", "training.checkpoint_every_samples=8")
OTHER = ("training.optimizer.learning_rate=0.01", "training.seed=7")
NAMED = r"started with training.optimizer.learning_rate=0.001 \(now 0.01\), training.seed=0 \(now 7\)"


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("begun")
    train(load_recipe(str(tiny_recipe(folder)), SHORT), folder / "run", silent=True)
    return folder


@pytest.fixture
def run(begun: Path, tmp_path: Path) -> Path:
    shutil.copytree(begun / "run", tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("lost", ["removed", "edited"])
def test_other_settings_are_named_whatever_config_yaml_says(lost: str, begun: Path, run: Path) -> None:
    config = run / "config.yaml"
    if lost == "removed":
        config.unlink()
    else:
        changed = config.read_text().replace("learning_rate: 0.001", "learning_rate: 0.01").replace("  seed: 0", "  seed: 7")
        config.write_text(changed)
    with pytest.raises(ConfigError, match=NAMED):
        train(load_recipe(str(begun / "tiny.yaml"), (*SHORT, *OTHER)), run, silent=True)
    more = (*SHORT, "training.samples=20")
    train(load_recipe(str(begun / "tiny.yaml"), more), run, silent=True)
    assert last_seen(run) == 20


def test_a_run_without_config_yaml_is_its_own_recipe(run: Path) -> None:
    (run / "config.yaml").unlink()
    again = verbs.train(run, "training.samples=20", progress=False)
    assert again.folder == run and last_seen(run) == 20 and (run / "config.yaml").is_file()


def test_where_no_manifest_verifies_nothing_is_begun_anew(begun: Path, run: Path) -> None:
    (run / "config.yaml").unlink()
    for manifest in run.glob(f"checkpoints/*/{MANIFEST}"):
        manifest.write_text("{}")
    with pytest.raises(CheckpointError, match="no checkpoint in"):
        train(load_recipe(str(begun / "tiny.yaml"), (*SHORT, *OTHER)), run, silent=True)


def test_a_recipe_of_another_version_is_named_with_65(begun: Path, run: Path) -> None:
    for manifest in run.glob(f"checkpoints/*/{MANIFEST}"):
        content = json.loads(manifest.read_text())
        content["recipe"]["training"]["of_a_later_version"] = 1
        del content[MANIFEST_SHA256]
        manifest.write_text(json.dumps({**content, MANIFEST_SHA256: hash_content(content)}))
    named = r"samples-000000000016/MANIFEST.json: unknown key 'training.of_a_later_version'"
    with pytest.raises(CheckpointError, match=named) as caught:
        load_model(run)
    assert caught.value.exit_code == 65
    with pytest.raises(CheckpointError, match=named):
        train(load_recipe(str(begun / "tiny.yaml"), SHORT), run, silent=True)


def test_a_class_that_is_gone_from_the_data_is_said_when_the_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("cat", "emu", "ship"):
        for number in range(4):
            (tmp_path / "pictures" / name).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), (60 * number, 0, 0)).save(tmp_path / "pictures" / name / f"{number}.png")
    folder = f"data.source={{kind: folder, path: {tmp_path}/pictures}}"
    changes = (folder, "conditioning={semantic: {kind: class}, controls: []}", "preview.count=1", *SHALLOW)
    recipe = str(tiny_recipe(tmp_path))
    train(load_recipe(recipe, (*changes, "training.samples=4")), tmp_path / "run")
    assert "no picture" not in capsys.readouterr().err
    shutil.rmtree(tmp_path / "pictures" / "emu")
    train(load_recipe(recipe, (*changes, "training.samples=8")), tmp_path / "run")
    assert "the data has no picture any more of class emu, which the run goes on knowing" in capsys.readouterr().err
    assert last_seen(tmp_path / "run") == 8 and load_model(tmp_path / "run").known.facts.class_names == ("cat", "emu", "ship")
