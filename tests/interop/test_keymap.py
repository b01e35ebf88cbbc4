"""Key maps: every move and the whole undo themselves to the bit, and nothing is lost or made up unseen."""

from __future__ import annotations

import pytest
import torch

from open_ldm.core.errors import CheckpointError
from open_ldm.interop.keymap import (
    Computed,
    Copies,
    HalvesSwapped,
    KeyMap,
    Reshaped,
    Same,
    Stacked,
    layers,
    stacked_layers,
)
from tests.helpers import randn

MAP = KeyMap(
    [
        *layers({"a": "x"}),
        *stacked_layers(["q", "k", "v"], "qkv"),
        Reshaped("conv", "matrix", (4, 3, 2, 2), (4, 12)),
        HalvesSwapped("norm", "modulation"),
        Copies(("t.0", "t.1"), "t"),
        Computed("table", torch.arange(3.0)),
    ]
)


def published() -> dict[str, torch.Tensor]:
    state = {
        f"{name}.{part}": randn(2, 3, seed=i)
        for i, (name, part) in enumerate((n, p) for n in "aqkv" for p in ("weight", "bias"))
    }
    return state | {
        "conv": randn(4, 3, 2, 2),
        "norm": randn(6, 2),
        "t.0": randn(2),
        "t.1": randn(2),
        "table": torch.arange(3.0),
    }


def test_published_to_ours_and_back_is_bit_equal() -> None:
    theirs = published()
    back = MAP.write(MAP.read(theirs))
    assert back.keys() == theirs.keys()
    assert all(torch.equal(back[name], theirs[name]) for name in theirs)


def test_the_moves_do_what_they_say() -> None:
    theirs = published()
    ours = MAP.read(theirs)
    assert set(ours) == {"x.weight", "x.bias", "qkv.weight", "qkv.bias", "matrix", "modulation", "t"}
    assert torch.equal(ours["qkv.bias"][2:4], theirs["k.bias"])
    assert torch.equal(ours["modulation"][:3], theirs["norm"][3:])
    assert torch.equal(ours["matrix"][1], theirs["conv"][1].flatten())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"a.bias": None}, "lacks a.bias"),
        ({"extra": randn(1)}, "also holds extra"),
        ({"t.1": randn(2, seed=9)}, "t.1 differs from t.0"),
        ({"table": torch.zeros(3)}, "not the table"),
        ({"conv": randn(4, 3, 3, 3)}, r"conv has shape \[4, 3, 3, 3\]"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change: dict[str, torch.Tensor | None], said: str) -> None:
    state = {name: tensor for name, tensor in (published() | change).items() if tensor is not None}
    with pytest.raises(CheckpointError, match=said):
        MAP.read(state)


def test_moves_name_both_sides() -> None:
    assert Same("a", "b").theirs == ("a",) and Same("a", "b").ours == ("b",)
    assert Stacked(("a", "b"), "c").theirs == ("a", "b")
