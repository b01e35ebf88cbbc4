from __future__ import annotations

import pytest
import torch

from open_ldm.conditioning.dropout import draw_kept

POSITIONS = range(12_000)


def test_rates_and_independence() -> None:
    kept = draw_kept(3, POSITIONS, semantic_drop=0.1, control_drop=0.3)
    semantic, control = (~kept.semantic).double(), (~kept.control).double()
    # Four standard deviations of a binomial share.
    assert semantic.mean().item() == pytest.approx(0.1, abs=4 * (0.09 / len(POSITIONS)) ** 0.5)
    assert control.mean().item() == pytest.approx(0.3, abs=4 * (0.21 / len(POSITIONS)) ** 0.5)
    assert (semantic * control).mean().item() == pytest.approx(0.03, abs=4 * (0.03 / len(POSITIONS)) ** 0.5)


def test_a_draw_depends_on_seed_and_position_alone() -> None:
    whole = draw_kept(3, range(500), 0.5, 0.5)
    some = [7, 499, 0, 123]
    again = draw_kept(3, some, 0.5, 0.5)
    assert torch.equal(again.semantic, whole.semantic[some])
    assert torch.equal(again.control, whole.control[some])
    assert not torch.equal(draw_kept(4, range(500), 0.5, 0.5).semantic, whole.semantic)


def test_ends_are_exact() -> None:
    kept = draw_kept(3, range(200), 0.0, 1.0)
    assert bool(kept.semantic.all())
    assert not kept.control.any()
