"""The best speed of matrix products that a device has shown, which the speed of a training is a share of."""

from __future__ import annotations

import time

import torch

from open_ldm.core.device import Machine
from open_ldm.core.user_cache import keep_number, read_numbers

PEAK = "peak"
"""The numbers in the user's cache folder."""
_TIMES = 4
_MOST = 1e18


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
    known = read_numbers(PEAK).get(_name(machine))
    return known if known is not None and 0 < known < _MOST else None


def remember_peak(machine: Machine, speed: float) -> float:
    """Keep the better of a measured speed and the one that is stored, and return it; a folder that refuses is no error."""
    known = known_peak(machine) or 0.0
    if speed > known:
        keep_number(PEAK, _name(machine), speed)
    return max(speed, known)


def _name(machine: Machine) -> str:
    return f"{machine.sentence}, torch {torch.__version__}, float32 products {torch.get_float32_matmul_precision()}"
