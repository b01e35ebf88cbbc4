"""`ldm train FOLDER` and `ldm data survey FOLDER`: a recipe is chosen from what is there, printed, and it is one that runs."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from open_ldm.commands.dry_run import dry_run
from open_ldm.commands.guess import guess, is_data
from open_ldm.core.errors import DataError
from open_ldm.data.ome import tiff_bytes
from open_ldm.runs.recipe import load_recipe
from open_ldm.sources.folder import FolderConfig
from tests.cli.conftest import ldm
from tests.data.conftest import make_bytes, make_image, make_tar


def test_splits_one_folder_deeper_are_taken_and_the_fix_for_them_is_one(tmp_path: Path) -> None:
    names = [f"cifar/{split}/{label}/1.png" for split in ("test", "train") for label in ("cat", "dog")]
    folder = pictures(tmp_path / "a", *names)
    found = guess(str(folder))
    assert any("cifar/train" in override for override in found.overrides)
    with pytest.raises(DataError, match=r"fix: data\.source\.split=cifar/train, or"):
        FolderConfig(path=folder).open()
    assert FolderConfig(path=folder, split="cifar/train").open().class_names == ("cat", "dog")


def pictures(root: Path, *names: str, side: int = 80) -> Path:
    for seed, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        make_image(side, side + 10, seed).save(root / name)
    return root


def wide(root: Path, top: int, channels: int) -> Path:
    root.mkdir()
    for seed in range(6):
        values = np.random.default_rng(seed).integers(0, top + 1, (channels, 40, 40)).astype(np.uint16)
        (root / f"{seed}.tif").write_bytes(tiff_bytes(values, [f"stain {number}" for number in range(channels)]))
    return root


CASES = ("plain", "classes", "captions", "splits", "small", "shards", "stack", "grey", "npy", "odd")


def case(name: str, root: Path) -> tuple[Path, dict[str, object]]:
    """A folder and what its recipe must say."""
    match name:
        case "plain":
            return pictures(root / "a", "1.png", "2.png"), {"semantic": "none", "size": 64, "recipe": "photos-dit"}
        case "classes":
            return pictures(root / "a", "cat/1.png", "dog/1.png"), {"semantic": "class", "size": 64, "recipe": "photos-dit"}
        case "captions":
            folder = pictures(root / "a", "1.png", "2.png")
            for number in (1, 2):
                (folder / f"{number}.txt").write_text("a red picture\n")
            return folder, {"semantic": "text", "size": 64, "recipe": "emoji-mmdit"}
        case "splits":
            names = [f"{split}/{label}/1.png" for split in ("test", "train") for label in ("cat", "dog")]
            return pictures(root / "a", *names), {"semantic": "class", "split": "train", "size": 64}
        case "small":
            return pictures(root / "a", "1.png", "2.png", side=20), {"size": 16}
        case "shards":
            (root / "a").mkdir()
            members = {
                f"{number}.{ending}": content
                for number in range(4)
                for ending, content in (("png", make_bytes()), ("cls", b"%d" % (number % 2)))
            }
            make_tar(root / "a" / "0.tar", members)
            return root / "a", {"kind": "shards", "semantic": "class", "size": 16}
        case "stack":
            return wide(root / "a", 4095, 3), {"channels": 3, "bits": 16, "range": ((0, 4095),), "names": "stain 2"}
        case "grey":
            return wide(root / "a", 65535, 1), {"channels": 1, "bits": 16, "range": None}
        case "npy":
            (root / "a").mkdir()
            np.save(root / "a" / "1.npy", np.random.default_rng(0).integers(0, 256, (40, 40, 5), dtype=np.uint8))
            return root / "a", {"channels": 5, "bits": 8, "range": None}
    return pictures(root / "set [v2] #1: 'x'", "1.png", "2.png"), {"size": 64}


@pytest.mark.parametrize("name", CASES)
def test_a_recipe_is_chosen_that_fits_and_builds(name: str, tmp_path: Path) -> None:
    folder, wanted = case(name, tmp_path)
    found = guess(str(folder))
    recipe = load_recipe(found.recipe, found.overrides)
    source = recipe.data.source
    assert str(source.path) == str(folder)  # type: ignore[union-attr]
    seen = {
        "recipe": found.recipe,
        "semantic": recipe.conditioning.semantic.kind,
        "size": recipe.data.transform.size_px,
        "kind": source.kind,
        "split": getattr(source, "split", None),
        "channels": source.channels,  # type: ignore[union-attr]
        "bits": source.bits,  # type: ignore[union-attr]
        "range": source.channel_range,  # type: ignore[union-attr]
        "names": (source.channel_names or ("",))[-1],  # type: ignore[union-attr]
    }
    assert {key: seen[key] for key in wanted} == wanted
    if name in ("classes", "captions", "stack"):  # building takes seconds
        dry_run(recipe)
    assert shlex.split(found.text().splitlines()[-1])[3:] == list(found.overrides)


def test_of_several_splits_the_guess_says_which_it_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"{split}/{label}/{number}.png" for split in ("test", "train") for label in ("cat", "dog") for number in (1, 2)]
    folder = pictures(tmp_path / "a", *names, "train/cat/3.png")
    code, out, err = ldm(capsys, "data", "survey", folder)
    assert code == 0 and "5 pictures" in out
    assert "\nsplit: train of test, train; data.source.split=NAME takes another\n" in err
    code, out, err = ldm(capsys, "data", "survey", folder, "data.source.split=test")
    assert code == 0 and "4 pictures" in out and "4 pictures" in err and "takes another" not in err
    code, _, err = ldm(capsys, "data", "survey", folder, "data.source.split=tset")
    assert code == 2 and "did you mean 'test'?" in err


@pytest.mark.parametrize(("labels", "kind"), [(("", "", "", ""), "none"), (("cat/", "dog/", "cat/", "dog/"), "class")])
def test_captions_of_half_of_the_pictures_are_not_thrown_away_in_silence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], labels: tuple[str, ...], kind: str
) -> None:
    folder = pictures(tmp_path / "a", *(f"{label}{number}.png" for number, label in enumerate(labels)))
    for number, label in enumerate(labels[:2]):
        (folder / f"{label}{number}.txt").write_text("a red picture\n")
    found = guess(str(folder))
    assert load_recipe(found.recipe, found.overrides).conditioning.semantic.kind == kind
    assert "\nthe guess does not use the 2 captions, as no more than half" in found.text()
    setting = "conditioning.semantic.kind=text"
    assert f"{setting} reads them\n" in found.text()
    dry_run(load_recipe(found.recipe, [*found.overrides, setting]))
    (folder / f"{labels[2]}2.txt").write_text("a red picture\n")
    assert "does not use" not in guess(str(folder)).text()


def test_classes_beside_captions_are_not_thrown_away_in_silence(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "a", "cat/1.png", "dog/1.png")
    for label in ("cat", "dog"):
        (folder / label / "1.txt").write_text("a red picture\n")
    found = guess(str(folder))
    setting = shlex.split(next(line for line in found.text().splitlines() if "not the 2 classes" in line))[-3]
    recipe = load_recipe(found.recipe, [*found.overrides, setting])
    assert recipe.conditioning.semantic.kind == "class"
    dry_run(recipe)


def test_what_cannot_be_guessed_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="contains no pictures"):
        guess(str(tmp_path / "empty"))
    assert not is_data("photos-dit") and not is_data(str(tmp_path / "a.yaml")) and is_data(str(tmp_path / "empty"))


def test_the_command_line_surveys_and_builds_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path / "mine", *(f"{number}.png" for number in range(4)))
    (tmp_path / "mine" / "copy.png").write_bytes((tmp_path / "mine" / "2.png").read_bytes())
    code, out, err = ldm(capsys, "data", "survey", "mine", "--duplicates", "data.holdout={share: 0.5}")
    assert code == 0 and "5 pictures, no classes" in out and "ldm train photos-dit name=mine" in err
    assert "1 copy byte for byte" in out and "across the hold-out" in out
    listed = json.loads((tmp_path / "duplicates" / "duplicates.json").read_text())
    assert listed["copies"] == 1 and Image.open(tmp_path / "duplicates" / "duplicates.png").width > 200
    code, out, _ = ldm(capsys, "train", "mine", "--dry-run", "training.samples=64", "--json")
    assert code == 0 and json.loads(out)
    code, _, err = ldm(capsys, "data", "survey", "photos-dit", "--out", "x")
    assert code == 2 and "--out has no effect without --duplicates" in err
