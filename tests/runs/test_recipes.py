"""Packaged recipes: they build at any scale, and a baseline differs from its twin in the conditioning alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from open_ldm.commands.autoencoder_dry_run import dry_run as dry_run_of_autoencoder
from open_ldm.commands.dry_run import dry_run
from open_ldm.core.config import to_yaml
from open_ldm.core.errors import ConfigError
from open_ldm.runs.autoencoder.recipe import load_autoencoder_recipe
from open_ldm.runs.catalogue import about, all_packaged, packaged, recipe_text
from open_ldm.runs.recipe import load_recipe
from open_ldm.runs.stages import build_stages
from open_ldm.runs.train import flattened

NAMES = packaged()
BASELINES = [name for name in NAMES if name.endswith("-baseline")]


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_builds_on_the_meta_device(name: str) -> None:
    recipe = load_recipe(name)
    for each in [stage.recipe for stage in build_stages(recipe, Path("runs") / name)] or [recipe]:
        counted = dry_run(each)
        assert counted.parameters > 0 and counted.gmacs > 0


@pytest.mark.parametrize("name", packaged("autoencoder"))
def test_every_autoencoder_recipe_builds_on_the_meta_device(name: str) -> None:
    counted = dry_run_of_autoencoder(load_autoencoder_recipe(name))
    assert 100_000 < counted.parameters < 10_000_000 and counted.values_per_latent > 1


@pytest.mark.parametrize("name", all_packaged())
def test_every_recipe_opens_with_what_it_costs_and_shows(name: str) -> None:
    text = recipe_text(name)
    opening = text.split("name:")[0]
    assert len(about(name)) > 20
    for heading in ("# command ", "# hardware ", "# time ", "# result "):
        assert heading in opening, heading
    assert "TIME_" not in text and "RESULT_" not in text


def test_each_recipe_of_the_main_job_has_a_baseline() -> None:
    assert {name.removesuffix("-baseline") for name in BASELINES} >= {
        "demo",
        "shapes-text",
        "cifar10-dit",
        "cifar10-pixart",
        "cifar10-mdtv2",
        "cifar10-unet",
        "emoji-mmdit",
        "photos-dit",
        "shapes-entangled",
        "cifar10-entangled",
    }


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_differs_in_the_conditioning_alone(name: str) -> None:
    improved = flattened(load_recipe(name.removesuffix("-baseline")).model_dump(mode="json"))
    baseline = flattened(load_recipe(name).model_dump(mode="json"))
    differing = {key for key in {*improved, *baseline} if improved.get(key) != baseline.get(key)}
    assert differing - {"name"}
    assert all(key == "name" or key.startswith("conditioning.") for key in differing)


@pytest.mark.parametrize("name", ["cifar10-mdtv2", "cifar10-mmdit", "cifar10-pixart", "cifar10-unet"])
def test_the_small_twins_differ_in_the_denoiser_alone(name: str) -> None:
    """Whatever the network: the same data, conditions, objective, training and sampling."""
    one, other = (load_recipe(recipe).model_dump(mode="json") for recipe in ("cifar10-dit", name))
    assert {key for key in one if one[key] != other[key]} == {"name", "denoiser"}


def test_the_published_scale_has_the_published_parameters() -> None:
    # DiT-XL/2 without its frozen position table (architectures: 675,129,632 with it).
    assert dry_run(load_recipe("imagenet256-dit-xl2")).parameters == 675_129_632 - 256 * 1152
    # PixArt-XL/2 reads tokens of the width 1152 in place of 4096, and keeps a table of 1001 of them.
    assert dry_run(load_recipe("imagenet256-pixart-xl2")).parameters == 610_856_096 - (4096 - 1152) * 1152 + 1001 * 1152
    assert dry_run(load_recipe("imagenet256-mdtv2-xl2")).parameters == 742_263_904
    # LDM-4-G's network on 4 channels, and its table of 1001 class tokens of 512.
    assert dry_run(load_recipe("imagenet256-unet-ldm4g")).parameters == 400_924_036 + 1001 * 512


def test_the_resolved_recipe_is_a_recipe(tmp_path: Path) -> None:
    recipe = load_recipe("demo-baseline", ["training.samples=4e3", "training.optimizer.learning_rate=1e-4"])
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(recipe))
    assert load_recipe(str(path)) == recipe
    assert recipe.training.samples == 4000


def test_a_recipe_cannot_extend_itself(tmp_path: Path) -> None:
    path = tmp_path / "loop.yaml"
    path.write_text(yaml.safe_dump({"extends": str(path), "name": "loop"}))
    with pytest.raises(ConfigError, match="extends itself"):
        load_recipe(str(path))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["training.lr=1"], "training.lr"),
        (["training.batchsize=8"], "did you mean 'batch_size'"),
        (["training.batch_size=two"], "training.batch_size='two'"),
        (["denoiser.kind=unet3d"], "denoiser.kind='unet3d' is unknown"),
        (["data.transform.size_px=30"], "patches of 4"),
        (["training.samples"], "not of the form key=value"),
        (["conditioning.controls.size.gate.kind=constant"], "original_size"),
        (["conditioning.semantic={kind: text, padding: zero, padding_floor: 0.5}"], "padding_floor has no effect"),
        (["sampling.spacing=leading"], "needs a schedule of discrete steps"),
        (["sampling.guidance={semantic_scale: 1, interval: [0, 0.5]}"], "no effect"),
    ],
)
def test_mistakes_are_answered_in_one_line(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe("demo", overrides)
    assert said in caught.value.one_line() and "\n" not in caught.value.one_line()


def test_a_padding_floor_of_zero_is_not_written_and_another_is_part_of_the_numerics() -> None:
    plain, none, some = (
        load_recipe("demo", changes)
        for changes in ([], ["conditioning.semantic.padding_floor=0"], ["conditioning.semantic.padding_floor=0.5"])
    )
    assert "padding_floor" not in to_yaml(none) and plain.numerics == none.numerics
    assert some.numerics["conditioning"]["semantic"].pop("padding_floor") == 0.5
    assert load_recipe("emoji-mmdit").model_dump()["conditioning"]["semantic"]["padding_floor"] == 0.5


@pytest.mark.parametrize("denoiser", ["dit", "mdtv2", "mmdit", "pixart", "unet"])
def test_every_denoiser_is_counted_without_conditions(denoiser: str) -> None:
    recipe = load_recipe("demo", ["conditioning.semantic.kind=none", "conditioning.controls=[]", f"denoiser.kind={denoiser}"])
    assert dry_run(recipe).parameters > 0
