"""Trainings that align a layer to their autoencoder: resumed, from a cache, sampled, started from, and refused on pixels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from open_ldm.autoencoders.export import as_config
from open_ldm.commands.dry_run import dry_run
from open_ldm.commands.ema import write_average
from open_ldm.commands.export.pipeline import export_pipeline
from open_ldm.commands.pack import write_model
from open_ldm.core.errors import ConfigError
from open_ldm.model.alignment import ALIGNMENT
from open_ldm.runs.autoencoder.recipe import load_autoencoder_recipe
from open_ldm.runs.autoencoder.recorder import AUTOENCODER
from open_ldm.runs.autoencoder.train import train_autoencoder
from open_ldm.runs.load import load_run
from open_ldm.runs.recipe import Recipe, load_recipe
from open_ldm.runs.train import train
from tests.runs.autoencoder import tiny as autoencoders
from tests.runs.tiny import DENOISERS, losses, tiny_recipe

SHORT = ("training.samples=16", "training.checkpoint_every_samples=8", "preview.count=1", "data.views=2")
ALIGNED = ("objective.alignment={weight: 0.5}",)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A trained tiny autoencoder, as an override."""
    folder = tmp_path_factory.mktemp("encoder")
    recipe = load_autoencoder_recipe(str(autoencoders.tiny_recipe(folder)), ["training.samples=8"])
    train_autoencoder(recipe, folder / "run", silent=True)
    config = as_config(recipe.network, folder / "run" / AUTOENCODER).model_dump(mode="json")
    return f"autoencoder={json.dumps(config)}"


def recipe_of(tmp_path: Path, kind: str, *changes: str) -> Recipe:
    patches = ["denoiser.patch=2"] if kind != "unet" else []
    return load_recipe(str(tiny_recipe(tmp_path)), [*DENOISERS[kind], *patches, *SHORT, *changes])


def tensors(run: Path) -> dict[str, str]:
    manifest = json.loads((max((run / "checkpoints").iterdir()) / "MANIFEST.json").read_text())
    return {name: each["sha256"] for name, each in manifest["files"].items()}


def names(run: Path, group: str = "model") -> set[str]:
    manifest = json.loads((max((run / "checkpoints").iterdir()) / "MANIFEST.json").read_text())
    return set(manifest["files"][group]["tensors"])


@pytest.mark.parametrize("kind", ["dit", "mmdit", "pixart", "mdtv2", "unet"])
def test_it_goes_on_bit_equal_and_from_a_cache_alike(kind: str, encoder: str, tmp_path: Path) -> None:
    aligned = (encoder, *ALIGNED)
    train(recipe_of(tmp_path, kind, *aligned), tmp_path / "whole", silent=True)
    train(recipe_of(tmp_path, kind, *aligned, "training.samples=8"), tmp_path / "run", silent=True)
    train(recipe_of(tmp_path, kind, *aligned), tmp_path / "run", silent=True)
    assert tensors(tmp_path / "run") == tensors(tmp_path / "whole") and losses(tmp_path / "run") == losses(tmp_path / "whole")
    assert any(name.startswith(ALIGNMENT) for name in names(tmp_path / "run"))
    train(recipe_of(tmp_path, kind, *aligned, f"cache.path={tmp_path / 'cache'}"), tmp_path / "cached", silent=True)
    cached, whole = ([loss for _, loss in losses(tmp_path / run)] for run in ("cached", "whole"))
    assert cached == pytest.approx(whole, rel=1e-3)
    train(recipe_of(tmp_path, kind, encoder), tmp_path / "plain", silent=True)
    assert losses(tmp_path / "plain")[0][1] < losses(tmp_path / "whole")[0][1]  # type: ignore[operator]
    assert not any(name.startswith(ALIGNMENT) for name in names(tmp_path / "plain"))
    loaded = load_run(tmp_path / "run")
    assert not any(name.startswith(ALIGNMENT) for name in loaded.model.state_dict())


def test_runs_with_and_without_it_start_from_each_other(encoder: str, tmp_path: Path) -> None:
    train(recipe_of(tmp_path, "dit", encoder), tmp_path / "plain", silent=True)
    for out, source, changes in (("on", "plain", ALIGNED), ("still", "on", ALIGNED), ("off", "on", ())):
        train(
            recipe_of(tmp_path, "dit", encoder, *changes, f"init_from.source={tmp_path / source}"), tmp_path / out, silent=True
        )
        receipt = json.loads((tmp_path / out / "transfer.json").read_text())
        told = {json.dumps(each) for each in receipt["tensors"] if ALIGNMENT in json.dumps(each)}
        action = {"on": "new", "still": "kept", "off": "dropped"}[out]
        assert told and all(f'"{action}"' in each for each in told)


def test_what_leaves_a_run_has_none_of_it_and_blocks_may_be_computed_again(encoder: str, tmp_path: Path) -> None:
    power = "training.ema={kind: power, lengths: [0.05, 0.1], snapshot_every_samples: 4}"
    run, again = tmp_path / "run", tmp_path / "again"
    train(recipe_of(tmp_path, "dit", encoder, *ALIGNED, power), run, silent=True)
    train(recipe_of(tmp_path, "dit", encoder, *ALIGNED, "training.recompute=blocks"), again, silent=True)
    assert losses(run) == losses(again)
    assert any(name.startswith(ALIGNMENT) for name in names(run, "ema_0.1"))
    assert load_run(write_average(run, 0.07, tmp_path / "made").folder).samples_seen == 16
    loaded = load_run(run)
    write_model(loaded, loaded.recipe, tmp_path / "alone")
    assert not any(name.startswith(ALIGNMENT) for name in names(tmp_path / "alone", "ema"))
    recipe = recipe_of(tmp_path, "dit", encoder, *ALIGNED, f"init_from.source={tmp_path / 'alone'}")
    train(recipe, tmp_path / "started", silent=True)  # from weights alone: the network begins anew
    weights = next(export_pipeline(run, tmp_path / "exported").rglob("network/*.safetensors"))
    assert not any(name.startswith(ALIGNMENT) for name in load_file(weights))


def test_pixels_are_refused_in_one_line_and_what_it_takes_is_counted(encoder: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        recipe_of(tmp_path, "dit", *ALIGNED)
    assert "objective.alignment=null, or an autoencoder" in caught.value.one_line() and "\n" not in caught.value.one_line()
    plain, aligned = (recipe_of(tmp_path, "dit", encoder, *changes) for changes in ((), ALIGNED))
    assert "alignment" not in plain.numerics["objective"] and plain.numerics != aligned.numerics
    more = dry_run(aligned).parameters - dry_run(plain).parameters
    assert more == 2 * (32 * 32 + 32) + 32 * 16 + 16  # two layers of the width, and one to patches of 2 x 2 x 4
