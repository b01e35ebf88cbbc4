"""What trackers are sent of an event: its numbers by the names that curves have everywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping

from open_ldm.core.events import Event
from open_ldm.evaluation.stored import Stored

_NUMBERS = {
    "train": ("loss", "grad_norm", "learning_rate", "samples_per_second", "data_wait_share"),
    "held_out": ("mean", "low", "high"),
    "evaluated": ("frechet_distance", "nearer"),
    "reconstruction": ("mean_psnr_db", "worst_psnr_db"),
}
PREVIEW = "preview"
TRACKED = (*_NUMBERS, PREVIEW)
"""Events of which trackers are sent something."""


def scalars_of(event: Event) -> dict[str, float]:
    """Return the finite numbers of an event; a curve has a gap where a loss was not finite."""
    found = {f"{event.name}/{name}": event.number(name) for name in _NUMBERS.get(event.name, ())}
    levels, times = event.fields.get("levels"), event.fields.get("times")
    if event.name == "held_out" and isinstance(levels, list) and isinstance(times, list):
        found |= {f"held_out/at_t_{t:g}": float(level) for t, level in zip(times, levels, strict=False)}
    return _finite(found)


def curves_of(event: Event) -> list[str]:
    """Return the names of what trackers are sent of an event: its finite numbers, or the picture; [] for other events."""
    if event.name == PREVIEW:
        return [PREVIEW]
    return list(scalars_of(event)) if event.name in TRACKED else []


def scalars_of_result(stored: Stored) -> dict[str, float]:
    """Return a measured number and its interval; the protocol's id is in the name, since only equal protocols make a curve."""
    estimate, name = stored.result.estimate, f"evaluation/{stored.result.estimate.name}/{stored.result.protocol.id}"
    return _finite({name: estimate.value, f"{name}/low": estimate.low, f"{name}/high": estimate.high})


def key_of_result(stored: Stored) -> str:
    """Return what tells a measured number from all others."""
    return f"{stored.result.estimate.name} {stored.result.protocol.id} {stored.measured}"


def _finite(numbers: Mapping[str, float | None]) -> dict[str, float]:
    return {name: number for name, number in numbers.items() if number is not None and math.isfinite(number)}
