"""What the demo claims, and when it has to say no: an interval that lies on the wrong side, not a goal narrowly missed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from open_ldm.commands.demo.measure import ModelFindings

BASELINE_CHANGES = 0.5
"""The entangled baseline is wrong where its content change lies surely below this."""
IMPROVED_KEEPS = 0.2
"""The improved model is wrong where its content change lies surely above this."""
EFFECT_KEPT = 0.1
"""The improved model is wrong where its size does surely less than this share of what it does to real pictures.

Not of what it does in the baseline: there the colour changes with it, and with the colour the contrast, which counts as detail.
"""
FLIP_WORKS = 0.75
"""The flip control is wrong where left and right are surely right, or mirrored, less often than this."""


@dataclass(frozen=True)
class Claim:
    """One claim: what was expected, what was found, and whether the interval lies on the wrong side."""

    expected: str
    found: str
    wrong: bool


def judge(baseline: ModelFindings, improved: ModelFindings) -> Sequence[Claim]:
    """Compare what was found of the two models with what the demo claims."""
    change, kept = baseline.content_change, improved.content_change
    effect, reference = improved.control_effect, baseline.control_effect
    claims = [
        Claim("entangled: the colour follows the size", in_words(change), change.high < BASELINE_CHANGES),
        Claim("improved: the colour stays", in_words(kept), kept.low > IMPROVED_KEEPS),
        Claim(
            "improved: the size still does its work, detail",
            f"{effect.value:.2f} [{effect.low:.2f}, {effect.high:.2f}] of real pictures (entangled: {reference.value:.2f})",
            effect.high < EFFECT_KEPT,
        ),
    ]
    if improved.place is not None:
        place = improved.place
        claims.append(Claim("improved: left and right are right", in_words(place), place.high < FLIP_WORKS))
    if improved.mirrored is not None:
        mirrored = improved.mirrored
        claims.append(Claim("improved: flip=1 mirrors", in_words(mirrored), mirrored.high < FLIP_WORKS))
    return claims


def in_words(share: object) -> str:
    """'92 % [86, 96]' of an estimate of a share."""
    value, low, high = (100 * getattr(share, name) for name in ("value", "low", "high"))
    return f"{value:.0f} % [{low:.0f}, {high:.0f}]"
