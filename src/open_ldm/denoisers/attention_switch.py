"""Up to how many keys attention is written out on a processor: measured once there, kept in the user's cache folder.

For short sequences two products with a softmax between them are faster than torch's kernel on a CPU with fast products; for
long ones the memory of the logits costs more than it saves. Where one overtakes the other depends on the processor.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from statistics import median

import torch
from torch import nn

from open_ldm.core.device import Machine
from open_ldm.core.others import MANY, cores_of_others
from open_ldm.core.user_cache import keep_number, read_numbers
from open_ldm.denoisers.blocks.attention import Attention, attend

ATTENTION = "attention"
"""The numbers in the user's cache folder."""

LENGTHS = (128, 256, 384, 512, 768, 1024)
"""Numbers of keys that are measured, as long as writing out is faster."""

SHORT = 256
"""Up to so many keys nothing is measured: the usual choice (blocks/attention.py) is the faster one on every processor seen."""

_PICTURES, _HEADS, _HEAD_DIM, _ROUNDS = 2, 6, 64, 3
_GAIN = 1.05
_LOOK_SECONDS = 0.2


def longest_written_out(machine: Machine) -> int | None:
    """Return the most keys for which writing out is faster than torch's kernel, forward and backward.

    What was measured once with this processor, format, number of threads and version of torch is read from the user's cache
    folder, else it is measured, for a second or two, and kept there.

    Args:
        machine: Where, and in which format.

    Returns:
        One of `LENGTHS`, or 0; None, which is the usual choice, on other devices than CPUs, and where other programs use more
        than half a core, so that measuring means little.
    """
    if machine.device.type != "cpu":
        return None
    known = read_numbers(ATTENTION).get(_name(machine))
    if known is not None and known in (0, *LENGTHS):
        return int(known)
    if cores_of_others(_LOOK_SECONDS) > MANY:
        return None
    longest = _measured(machine.compute_dtype)
    keep_number(ATTENTION, _name(machine), longest)
    return longest


def write_out_up_to(network: nn.Module, longest: Mapping[torch.dtype, int]) -> None:
    """Have all attention of a network written out up to so many keys, by format; the usual choice holds for others."""
    for module in network.modules():
        if isinstance(module, Attention):
            module.longest = dict(longest)


def _measured(dtype: torch.dtype) -> int:
    longest = 0
    for length in LENGTHS:
        if _gain(length, dtype) < _GAIN:
            break
        longest = length
    return longest


def _gain(length: int, dtype: torch.dtype) -> float:
    """Seconds of torch's kernel over those of the products, in the median of rounds in which they take turns."""
    draws = torch.Generator().manual_seed(0)
    shape = (_PICTURES, _HEADS, length, _HEAD_DIM)
    q, k, v = (torch.randn(shape, generator=draws).to(dtype).requires_grad_() for _ in range(3))

    def seconds(longest: int) -> float:
        started = time.perf_counter()
        torch.autograd.grad(attend(q, k, v, longest={dtype: longest}).sum(), (q, k, v))
        return time.perf_counter() - started

    rounds = [seconds(0) / seconds(length) for _ in range(_ROUNDS + 1)]
    return median(rounds[1:])  # the first one warms up


def _name(machine: Machine) -> str:
    return f"{machine.sentence}, torch {torch.__version__}"
