"""Sizes that fit, and recipes that extend others."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from open_ldm.core.errors import ConfigError
from open_ldm.core.overrides import assignments
from open_ldm.denoisers.dit import DiTConfig
from open_ldm.denoisers.mdtv2 import MDTv2Config
from open_ldm.denoisers.unet import UNetConfig
from open_ldm.runs.recipe import load_recipe, recipe_from
from open_ldm.runs.weighting_notes import weighting_notes

KL = "autoencoder={kind: kl, path: x, channels: 4, factor: 8}"


@pytest.mark.parametrize(
    ("size", "fits"), [("64", True), ("[32, 96]", True), ("100", False), ("[64, 68]", False), ("16", False)]
)
def test_pictures_are_a_multiple_of_factor_times_patch(size: str, fits: bool) -> None:
    overrides = [KL, "denoiser.patch=4", f"data.transform.size_px={size}"]
    if fits:
        load_recipe("demo", overrides)
        return
    with pytest.raises(ConfigError, match=r"patches of 4 behind .* factor 8; needed: .*multiples of 32$") as caught:
        load_recipe("demo", overrides)
    assert "\n" not in str(caught.value)


def test_a_weighting_without_effect_is_told_and_a_run_begun_with_it_is_read() -> None:
    weighting = "objective.weighting={kind: error_of, prediction: velocity}"
    (note,) = weighting_notes(load_recipe("demo", [weighting]))
    assert "changes nothing: the network predicts velocity itself" in note
    assert not weighting_notes(load_recipe("demo", [weighting, "process.prediction=x_0"]))
    assert not weighting_notes(load_recipe("demo"))


def test_a_folder_of_pictures_is_no_recipe_and_the_error_says_where_it_goes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_recipe(str(tmp_path))
    assert f"data.source.path={tmp_path}" in caught.value.fix
    with pytest.raises(ConfigError) as caught:
        load_recipe(str(tmp_path / "nowhere"))
    assert "data.source" not in str(caught.value)


def test_extends_is_seen_from_the_recipe_that_says_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner, elsewhere = tmp_path / "recipes" / "inner", tmp_path / "elsewhere"
    inner.mkdir(parents=True)
    elsewhere.mkdir()
    (inner.parent / "base.yaml").write_text(yaml.safe_dump({"extends": "demo", "name": "base", "preview": {"count": 3}}))
    (inner / "top.yaml").write_text(yaml.safe_dump({"extends": "../base.yaml", "name": "top"}))
    monkeypatch.chdir(elsewhere)
    recipe = load_recipe("../recipes/inner/top.yaml")
    assert (recipe.name, recipe.preview.count) == ("top", 3)
    (inner / "a.yaml").write_text(yaml.safe_dump({"extends": "b.yaml"}))
    (inner / "b.yaml").write_text(yaml.safe_dump({"extends": "a.yaml"}))
    with pytest.raises(ConfigError, match="extends itself"):
        load_recipe(str(inner / "a.yaml"))


@pytest.mark.parametrize(
    ("override", "fits"),
    [
        ("latent_stats={kind: given, scale: [1, 2, 3, 4], shift: [0, 0, 0, 1]}", True),
        ("latent_stats={kind: given, scale: 0.18215}", True),
        ("latent_stats={kind: given, scale: [1, 2, 3]}", False),
    ],
)
def test_given_statistics_are_for_the_latents_there_are(override: str, fits: bool) -> None:
    overrides = [KL, "denoiser.patch=4", "data.transform.size_px=64", override]
    if fits:
        load_recipe("demo", overrides)
        return
    with pytest.raises(ConfigError, match=r"given for 3 channels; needed: one number, or 4 .* ldm data stats") as caught:
        load_recipe("demo", overrides)
    assert "\n" not in str(caught.value)


def test_a_tiny_autoencoder_has_a_factor_too() -> None:
    overrides = ["autoencoder={kind: tiny, path: x}", "denoiser.patch=2", "data.transform.size_px=32"]
    assert load_recipe("demo", overrides).latent_shape == (4, 4, 4)


def shape_of(overrides: list[str], name: str = "photos-dit") -> tuple[int, int, int]:
    denoiser = load_recipe(name, overrides).denoiser
    assert isinstance(denoiser, DiTConfig)
    return denoiser.geometry.depth, denoiser.geometry.width, denoiser.geometry.heads


def test_a_size_that_is_given_is_the_size_that_is_built(tmp_path: Path) -> None:
    assert shape_of([]) == (6, 192, 3)  # the recipe's own
    assert shape_of(["denoiser.size=S"]) == (12, 384, 6)
    assert shape_of(["denoiser.size=XS"]) == (4, 128, 4)  # also where the recipe names the same size
    assert shape_of(["denoiser.patch=2"]) == (6, 192, 3)
    for overrides in (["denoiser.size=S", "denoiser.depth=2"], ["denoiser.depth=2", "denoiser.size=S"]):
        assert shape_of(overrides) == (2, 384, 6)
    assert shape_of(["denoiser={kind: dit, depth: 2}", "denoiser.size=S"]) == (2, 384, 6)
    assert shape_of(assignments({"denoiser": {"size": "S", "width": 192}})) == (12, 192, 6)
    resolved = load_recipe("photos-dit").model_dump(mode="json")
    assert recipe_from(resolved, assignments({"denoiser": resolved["denoiser"]}), source="x") == load_recipe("photos-dit")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"extends": "photos-dit", "denoiser": {"kind": "dit", "size": "S"}}))
    assert shape_of([], str(tmp_path / "mine.yaml")) == (12, 384, 6)


def test_a_size_of_the_other_networks_discards_what_it_decides_and_no_more() -> None:
    small = ["denoiser={kind: unet, model_channels: 16, head_dim: 16, groups: 4, transformer_depth: 2}"]
    content = load_recipe("demo", small).model_dump(mode="json")
    unet = recipe_from(content, ["denoiser.size=B"], source="x").denoiser
    assert unet == UNetConfig(size="B", transformer_depth=2)
    mdtv2 = load_recipe("imagenet256-mdtv2-xl2", ["denoiser.size=S"]).denoiser
    assert isinstance(mdtv2, MDTv2Config) and (mdtv2.decoder_depth, mdtv2.mask_ratio) == (6, 0.3)


@pytest.mark.parametrize("betas", ["[0.9, 1]", "[-0.1, 0.999]", "[2, 3]"])
def test_running_means_that_would_not_be_means_are_refused(betas: str) -> None:
    with pytest.raises(
        ConfigError, match=r"training\.optimizer\.betas\.[01]=.*; needed: (less than 1|greater than or equal to 0)"
    ):
        load_recipe("demo", [f"training.optimizer.betas={betas}"])
    assert load_recipe("demo", ["training.optimizer.betas=[0, 0.99]"]).training.optimizer.betas == (0, 0.99)
