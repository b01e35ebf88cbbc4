"""A lab's pictures of five channels, from the folder to samples, by the command line and the recipes of the documentation."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from diffusers import AutoencoderKL
from PIL import Image

from open_ldm.core.display import as_shown
from open_ldm.core.pictures import to_picture
from open_ldm.data import channels
from open_ldm.data.ome import read_ome
from open_ldm.runs.autoencoder.recipe import load_autoencoder_recipe
from open_ldm.runs.recipe import load_recipe
from open_ldm.sources.folder import FolderConfig
from tests.cells import write_cells
from tests.cli.conftest import ldm

PAGE = Path(__file__).parents[2] / "docs" / "autoencoders.md"
RECIPES = {
    (content := yaml.safe_load(text))["name"]: content
    for text in re.findall(r"```yaml\n(name: .*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
}
SHORT = [
    "data.workers=0",
    "data.transform.size_px=16",
    "training.batch_size=4",
    "training.samples=16",
    "training.dtype=float32",
]
AUTOENCODER = ["network.widths=[8, 8, 8]", "held_out.pictures=4", "held_out.shown=2", "training.preview_every_samples=16"]
DENOISER = [
    "data.views=1",
    "latent_stats.pictures=8",
    "denoiser={kind: dit, size: XS, patch: 2, depth: 1, width: 16, heads: 2}",
]
DENOISER += ["preview.count=2", "sampling.steps=2", "training.preview_every_samples=16"]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures and the two recipes."""
    folder = tmp_path_factory.mktemp("lab")
    write_cells(folder / "cells", 20, 24)
    for name, content in RECIPES.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return folder


@pytest.fixture(autouse=True)
def _inside(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lab)


PIXELS = ["autoencoder={kind: identity, channels: 5}", "cache=null", *SHORT, *DENOISER]
FIT = ["pictures=64", "batch_size=8", "held_out=0.4", "network={size_px: 16, width: 8, dim: 8}"]


def done(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    code, out, err = ldm(capsys, *arguments)
    assert code == 0, err
    return out


def test_the_documented_recipes_are_there() -> None:
    assert set(RECIPES) == {"cells-autoencoder", "cells"}
    assert load_autoencoder_recipe("cells-autoencoder.yaml").network.in_channels == 5
    assert load_recipe("cells.yaml").latent_shape[0] == 8


def test_from_a_folder_of_five_channels_to_samples(capsys: pytest.CaptureFixture[str], lab: Path) -> None:
    assert "40 pictures of 5 channels, 2 classes" in done(capsys, "data", "survey", "cells-autoencoder.yaml")
    done(capsys, "autoencoder", "train", "cells-autoencoder.yaml", *SHORT, *AUTOENCODER)
    worst = lab / "runs/cells-autoencoder/reconstructions/000000000016-worst.png"
    assert len(np.unique(np.asarray(Image.open(worst)).reshape(-1, 3), axis=0)) > 20
    done(capsys, "encode", "cells.yaml", *SHORT, *DENOISER)
    assert json.loads(done(capsys, "encode", "cells.yaml", *SHORT, *DENOISER, "--json"))["files_written"] == 0
    ranged = "data.source.channel_range=[[0, 2000]]"
    assert json.loads(done(capsys, "encode", "cells.yaml", *SHORT, *DENOISER, ranged, "--json"))["files_written"] > 0
    done(capsys, "train", "cells.yaml", *SHORT, *DENOISER)
    drawn = json.loads(done(capsys, "sample", "runs/cells", "--class", "treated", "--count", "3", "--out", "drawn", "--json"))
    assert [Path(path).name for path in drawn["numbers"]] == [f"{number:05d}.npy" for number in range(3)]
    read = FolderConfig(path=Path("drawn"), channels=5).open()
    assert len(read) == 3
    for index in range(3):
        pixels = read[index].pixels
        np.testing.assert_array_equal(pixels, np.load(drawn["numbers"][index]))
        seen = to_picture(as_shown(torch.from_numpy(pixels.transpose(2, 0, 1).copy())))
        np.testing.assert_array_equal(np.asarray(seen), np.asarray(Image.open(drawn["pictures"][index])))
    assert not np.array_equal(read[0].pixels, read[1].pixels)


def test_features_of_five_channels_measure_pixels_of_five_channels(capsys: pytest.CaptureFixture[str], lab: Path) -> None:
    done(capsys, "train", "cells.yaml", *PIXELS, "data.display=[4, 0, 0]", "--out", "pixels")
    drawn = json.loads(done(capsys, "sample", "pixels", "--class", "control", "--count", "1", "--out", "one", "--json"))
    chosen = np.load(drawn["numbers"][0])[:, :, [4, 0, 0]]
    np.testing.assert_array_equal(np.asarray(Image.open(drawn["pictures"][0])), chosen)
    done(capsys, "evaluate", "fit-features", "cells.yaml", *FIT, "--out", "features")
    measure = ["evaluate", "pixels", "--n", "12", "--metrics", "kid,neighbours", "--extractor"]
    found = json.loads(done(capsys, *measure, "features", "metrics.kid.subset_size=10", "metrics.kid.subsets=2", "--json"))
    assert {result["name"] for result in found["results"]} >= {"kid", "copies"}
    assert (lab / "pixels" / "neighbours.png").is_file()
    code, _, error = ldm(capsys, *measure, "random")
    assert code != 0 and "the pictures have 5 channels, the extractor reads 3" in error and "fit-features" in error


def test_samples_of_16_bits_are_16_bit_tiff(capsys: pytest.CaptureFixture[str], lab: Path) -> None:
    names = ["nucleus", "membrane", "cytoplasm", "granules", "skeleton"]
    wide = [
        *(change for change in PIXELS if change != "cache=null"),
        "data.source.bits=16",
        f"data.source.channel_names=[{', '.join(names)}]",
        "data.source.channel_range=[[0, 4095]]",
    ]
    done(capsys, "train", "cells.yaml", *wide, "cache={path: wide-cache}", "--out", "wide")
    drawn = json.loads(done(capsys, "sample", "wide", "--class", "treated", "--count", "2", "--out", "wide-drawn", "--json"))
    assert [Path(path).name for path in drawn["numbers"]] == ["00000.tif", "00001.tif"]
    assert read_ome(Path(drawn["numbers"][0]).read_bytes()).channels == tuple(names)
    exact = FolderConfig(path=Path("wide-drawn"), channels=5, bits=16, channel_range=[[0, 4095]]).open()[0].pixels
    stored = channels.decode(Path(drawn["numbers"][0]), 5, None, 64, bits=16)
    assert stored.max() <= 4095 and len(np.unique(stored)) > 256
    seen = as_shown(torch.from_numpy(exact.transpose(2, 0, 1).copy()))
    difference = np.asarray(to_picture(seen)).astype(int) - np.asarray(Image.open(drawn["pictures"][0]))
    assert np.abs(difference).max() <= 3  # one step of each of five channels, in colours


def test_the_display_may_change_under_way(capsys: pytest.CaptureFixture[str]) -> None:
    done(capsys, "train", "cells.yaml", *PIXELS, "--out", "shown")
    done(capsys, "train", "shown", "data.display=[1, 2, 3]")
    code, _, error = ldm(capsys, "train", "shown", "data.source.channel_range=[[0, 2000]]")
    assert code == 2 and "channel_range" in error


def test_grey_pictures_are_written_as_a_source_reads_them(capsys: pytest.CaptureFixture[str], lab: Path) -> None:
    (lab / "grey").mkdir()
    for number in range(12):
        array = np.random.default_rng(number).integers(0, 4096, (20, 20)).astype(np.uint16)
        Image.fromarray(array).save(lab / "grey" / f"{number}.png")
    source = "data.source={kind: folder, path: grey, channels: 1, channel_range: [[0, 4095]]}"
    changes = [*PIXELS, source, "autoencoder.channels=1", "conditioning.semantic={kind: none}"]
    done(capsys, "train", "cells.yaml", *changes, "--out", "grey-run")
    drawn = json.loads(done(capsys, "sample", "grey-run", "--count", "1", "--out", "grey-drawn", "--json"))
    assert "numbers" not in drawn
    read = FolderConfig(path=Path("grey-drawn"), channels=1).open()
    names = [read.sample_id(index) for index in range(len(read))]
    np.testing.assert_array_equal(read[names.index("00000.png")].pixels[:, :, 0], np.asarray(Image.open(drawn["pictures"][0])))
    metrics = ["--n", "12", "--metrics", "kid", "metrics.kid.subset_size=10", "metrics.kid.subsets=2"]
    done(capsys, "evaluate", "grey-run", "--extractor", "random", *metrics)


def test_channels_that_do_not_fit_are_refused_before_training(capsys: pytest.CaptureFixture[str], lab: Path) -> None:
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3}
    AutoencoderKL(**blocks, block_out_channels=(8, 8, 8), norm_num_groups=4, latent_channels=8).save_pretrained(lab / "rgb")
    cases = [
        (("autoencoder", "train", "cells-autoencoder.yaml", "network.in_channels=3"), "in_channels=3, but the pictures have 5"),
        (("autoencoder", "train", "cells-autoencoder.yaml", "network.in_channels=1"), "in_channels=1, but the pictures have 5"),
        (("train", "cells.yaml", "autoencoder={kind: identity}"), "needed: autoencoder.channels=5"),
        (
            ("train", "cells.yaml", *SHORT, *DENOISER, "autoencoder.path=rgb"),
            "have 5 channels, the autoencoder reads 3",
        ),
        (
            ("encode", "cells.yaml", *SHORT, *DENOISER, "autoencoder.path=rgb"),
            "ldm autoencoder train with network.in_channels=5",
        ),
        (("train", "demo", "data.display=[0, 1, 2]"), "display"),
    ]
    for arguments, said in cases:
        code, _, error = ldm(capsys, *arguments, *(["--out", "refused"] if arguments[0] != "encode" else []))
        assert code == 2 and said in error and len(error.strip().splitlines()) == 1, error
        assert not (lab / "refused" / "checkpoints").exists()
