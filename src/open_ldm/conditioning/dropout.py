"""The only place that drops conditions, so that guidance has an unconditional model to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from open_ldm.core import seeds


@dataclass(frozen=True)
class Kept:
    """Bool [B] each: which pictures keep their semantic and their control conditions."""

    semantic: Tensor
    control: Tensor


def draw_kept(seed: int, positions: Sequence[int], semantic_drop: float, control_drop: float) -> Kept:
    """Independent draws for the two kinds; each a function of (seed, position) alone (method, section 3)."""
    return Kept(
        semantic=seeds.uniform(seed, "drop_semantic", positions) >= semantic_drop,
        control=seeds.uniform(seed, "drop_control", positions) >= control_drop,
    )
