from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from open_ldm.core.errors import ConfigError
from open_ldm.core.files import hash_file
from open_ldm.evaluation.features.resize import antialiased, tensorflow_bilinear
from open_ldm.evaluation.features.weights import find_file, find_folder, hash_of, load_exactly
from tests.helpers import randn


def test_tensorflows_rule_pixel_by_pixel() -> None:
    x = randn(1, 2, 5, 7)
    found = tensorflow_bilinear(x, 11)
    assert found.shape == (1, 2, 11, 11)
    for row in range(11):
        for column in range(11):
            y, z = row * 5 / 11, column * 7 / 11
            top, left = math.floor(y), math.floor(z)
            below, right = min(top + 1, 4), min(left + 1, 6)
            upper = x[..., top, left] * (1 - (z - left)) + x[..., top, right] * (z - left)
            lower = x[..., below, left] * (1 - (z - left)) + x[..., below, right] * (z - left)
            torch.testing.assert_close(
                found[..., row, column], upper * (1 - (y - top)) + lower * (y - top), rtol=1e-4, atol=1e-5
            )
    torch.testing.assert_close(tensorflow_bilinear(x, 5)[..., :1, 0], x[..., :1, 0])


def test_a_picture_that_fits_is_left_alone() -> None:
    x = randn(1, 3, 8, 8)
    assert antialiased(x, 8, "bicubic") is x
    assert antialiased(x, 4, "bilinear").shape == (1, 3, 4, 4)
    checkerboard = torch.ones(1, 1, 8, 8)
    checkerboard[..., ::2] = -1
    assert float(antialiased(checkerboard, 4, "bilinear")[..., 1:-1].abs().max()) < 0.2, "fine stripes fade instead of aliasing"


def test_files_that_are_not_there_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"inception\.path='x\.pth' is not there; needed: .*OWNER/NAME/FILE"):
        find_file("x.pth", "inception.path")
    with pytest.raises(ConfigError, match="is not there"):
        find_file(str(tmp_path / "x" / "y" / "z.pth"), "inception.path")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=r"lpips\.heads='a/b/c\.pth' is no file here and cannot be had from the hub"):
        find_file("a/b/c.pth", "lpips.heads")
    with pytest.raises(ConfigError, match=r"clip\.path='a/b' is no folder here and cannot be had from the hub"):
        find_folder("a/b", "clip.path")


def test_hashes_name_files_in_any_order(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a", "b")]
    for file in files:
        file.write_bytes(file.name.encode())
    assert hash_of(files[:1]) == hash_file(files[0])
    assert hash_of(files) == hash_of(files[::-1]) != hash_of(files[:1])


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def test_tensors_are_loaded_whole() -> None:
    one, other = network(), network()
    state = {name: tensor for name, tensor in one.state_dict().items() if not name.endswith("num_batches_tracked")}
    load_exactly(other, {**state, "1.num_batches_tracked": torch.tensor(7)}, Path("x.pth"))
    assert other[0].weight.equal(one[0].weight)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("0.bias"), r"weights file x\.pth lacks 1 of 6 tensors, 0\.bias first"),
        (lambda state: state.update(extra=torch.ones(1)), "has 1 tensors too many, extra first"),
        (lambda state: state.update({"0.weight": torch.ones(4, 2)}), r"has 0\.weight of shape \[4, 2\], needed \[3, 2\]"),
        (lambda state: state["1.running_var"].fill_(torch.nan), r"has NaN or infinity in 1\.running_var"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(change: object, said: str) -> None:
    state = {name: tensor.clone() for name, tensor in network().state_dict().items()}
    change(state)  # type: ignore[operator]
    with pytest.raises(ConfigError, match=said):
        load_exactly(network(), state, Path("x.pth"))
