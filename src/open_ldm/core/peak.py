"""The best speed of matrix products that a device has shown, which the speed of a training is a share of."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

import torch

from open_ldm.core.device import Machine
from open_ldm.core.errors import DiskError
from open_ldm.core.files import write_json
from open_ldm.core.plain_data import parse_json

_TIMES = 4


def matrix_speed(machine: Machine, side: int | None = None) -> float:
    """Measure operations per second of square matrix products in the format that training uses, the best of four.

    Args:
        machine: Where.
        side: Of the matrices; None takes 8192 on CUDA and 1024 elsewhere.
    """
    size = side or (8192 if machine.device.type == "cuda" else 1024)
    left = torch.rand(size, size, device=machine.device, dtype=machine.compute_dtype)
    seconds = []
    for _ in range(_TIMES):
        started = time.perf_counter()
        left @ left
        if machine.device.type == "cuda":
            torch.cuda.synchronize(machine.device)
        seconds.append(time.perf_counter() - started)
    return float(2 * size**3 / min(seconds))


def peak_speed(machine: Machine) -> float:
    """Return the speed that `matrix_speed` once measured here; it is measured where the user's cache folder has none.

    A processor that others use shows less than it can, so a later measurement that is better counts: `remember_peak`.

    Args:
        machine: Where.

    Returns:
        Operations per second, of this device, format, number of threads and version of torch.
    """
    return known_peak(machine) or remember_peak(machine, matrix_speed(machine))


def known_peak(machine: Machine) -> float | None:
    """Return the speed that `matrix_speed` once measured here; nothing is measured, so that it is None where none is stored."""
    return _stored().get(_name(machine))


def remember_peak(machine: Machine, speed: float) -> float:
    """Keep the better of a measured speed and the one that is stored, and return it; a folder that refuses is no error."""
    known = _stored()
    best = max(speed, known.get(_name(machine), 0.0))
    if best != known.get(_name(machine)):
        with suppress(OSError, DiskError):
            peak_file().parent.mkdir(parents=True, exist_ok=True)
            write_json(peak_file(), {**known, _name(machine): best})
    return best


def peak_file() -> Path:
    """Return where peaks are stored: open-ldm/peak.json in the user's cache folder, as XDG_CACHE_HOME names it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "open-ldm" / "peak.json"


def _name(machine: Machine) -> str:
    return f"{machine.sentence}, torch {torch.__version__}, float32 products {torch.get_float32_matmul_precision()}"


def _stored() -> dict[str, float]:
    try:
        content = parse_json(peak_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {name: float(speed) for name, speed in content.items() if isinstance(speed, int | float) and 0 < speed < 1e18}
