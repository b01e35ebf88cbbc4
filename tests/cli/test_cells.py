"""A lab's pictures of five channels, from the folder to samples, by the command line and the recipes of the documentation."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from open_ldm.core.display import as_shown
from open_ldm.core.pictures import to_picture
from open_ldm.data.sources.folder import FolderConfig
from open_ldm.runs.autoencoder.recipe import load_autoencoder_recipe
from open_ldm.runs.recipe import load_recipe
from tests.cells import CLASSES, write_cells
from tests.cli.conftest import ldm

PAGE = Path(__file__).parents[2] / "docs" / "autoencoders.md"
RECIPES = {
    (content := yaml.safe_load(text))["name"]: content
    for text in re.findall(r"```yaml\n(name: .*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
}
SHORT = ["data.workers=0", "data.transform.size_px=16", "training.batch_size=4", "training.samples=16", "training.dtype=float32"]
AUTOENCODER = ["network.widths=[8, 8, 8]", "held_out.pictures=4", "held_out.shown=2", "training.preview_every_samples=16"]
DENOISER = ["data.views=1", "latent_stats.pictures=8", "denoiser={kind: dit, size: XS, patch: 2, depth: 1, width: 16, heads: 2}"]
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
        seen = to_picture(as_shown(read_tensor(pixels)))
        np.testing.assert_array_equal(np.asarray(seen), np.asarray(Image.open(drawn["pictures"][index])))
    assert not np.array_equal(read[0].pixels, read[1].pixels)


def read_tensor(pixels: np.ndarray) -> object:  # type: ignore[type-arg]
    import torch

    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())
