"""DiT's original file: a random one comes back to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from open_ldm.core.config import validate
from open_ldm.denoisers import DiTConfig
from open_ldm.denoisers.blocks.positions import GridPositions, Positions
from open_ldm.interop.dit import DiTFamily, original
from open_ldm.interop.files import WeightFile
from tests.helpers import randn
from tests.interop.layouts import original_dit


@pytest.mark.parametrize("own_table", [False, True])
def test_an_original_file_comes_back_to_the_bit(own_table: bool) -> None:
    state = original_dit(depth=2, width=384, channels=4, patch=2, classes=5)
    state["pos_embed"] = randn(1, 16, 384) if own_table else Positions(GridPositions(), 384)((4, 4), torch.device("cpu"))[None]
    described = DiTFamily().describe(WeightFile(Path("dit.pt"), state, ""), state)
    names = ("depth", "width", "heads", "patch", "positions")
    config = validate(DiTConfig, {name: described.settings[f"denoiser.{name}"] for name in names}, source="test")
    assert (config.geometry.heads, described.classes, described.latent_side) == (6, 5, 8)
    assert config.positions.kind == ("stored" if own_table else "grid")
    layout = original(config, 4, (4, 4))
    back = layout.write(layout.read(state))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)
