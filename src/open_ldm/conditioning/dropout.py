"""Dropping conditions in training, so that guidance has an unconditional model to compare with. No other code does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from open_ldm.core import seeds


@dataclass(frozen=True)
class Kept:
    """Which pictures keep their semantic and which keep their control conditions; bool [B] each."""

    semantic: Tensor
    control: Tensor


def draw_kept(seed: int, positions: Sequence[int], semantic_drop: float, control_drop: float) -> Kept:
    """Draw which conditions are kept, independently for the two kinds (docs/method.md section 3).

    Args:
        seed: The run's seed. Each draw is a function of (seed, position) alone.
        positions: Positions [B] in the order of samples.
        semantic_drop: Probability of dropping the semantic condition.
        control_drop: Probability of dropping all control conditions.
    """
    return Kept(
        semantic=seeds.uniform(seed, "drop_semantic", positions) >= semantic_drop,
        control=seeds.uniform(seed, "drop_control", positions) >= control_drop,
    )
