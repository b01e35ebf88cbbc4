"""Normal numbers from a counter: Philox-4x32-10 (Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3",
SC 2011) in whole-number operations of torch, on any device.

Every number is a function of (seed, purpose, position, place), so it is the same however a batch is split. Its values are not
those of core/seeds.py: a run takes one of the two when it starts, and keeps to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from open_ldm.core.device import moved
from open_ldm.core.seeds import key

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_STEPS = (0x9E3779B9, 0xBB67AE85)
_LOW = 0xFFFFFFFF
_ROUNDS = 10
_MOST_COUNTERS = 1 << 22
"""Of one launch: the whole numbers between the rounds take some hundred bytes for each."""


def philox(counter: Sequence[Tensor], number: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Turn counters into random bits: ten rounds of Philox-4x32.

    Args:
        counter: Four words of 32 bits, each int64 in [0, 2^32), of shapes that broadcast.
        number: The key, 64 bits.

    Returns:
        Four words of 32 random bits each, int64.
    """
    a, b, c, d = counter
    low, high = number & _LOW, number >> 32
    for turn in range(_ROUNDS):
        k_low, k_high = (low + turn * _STEPS[0]) & _LOW, (high + turn * _STEPS[1]) & _LOW
        # A product of two words wraps around at 2^64, and its bits are those of the product without sign.
        first, second = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a, b, c, d = (second >> 32 & _LOW) ^ b ^ k_low, second & _LOW, (first >> 32 & _LOW) ^ d ^ k_high, first & _LOW
    return a, b, c, d


def normal(seed: int, purpose: str, positions: Sequence[int], shape: Sequence[int], device: torch.device) -> Tensor:
    """Draw standard normal numbers by the method of Box & Muller (1958).

    r = sqrt(-2 ln u), (r cos 2 pi v, r sin 2 pi v) with u in (0, 1], v in [0, 1), of 24 bits each. |r| is at most 5.77.

    Args:
        seed: Of the run.
        purpose: What they are for; with the seed it gives the key.
        positions: Of the samples, in [0, 2^64); row i depends on positions[i] alone.
        shape: Of a row.
        device: Where they are drawn.

    Returns:
        [len(positions), *shape], float32 on `device`.
    """
    places = math.prod(shape)
    words, number = -(-places // 4), key(seed, purpose)
    out = torch.empty(len(positions), places, device=device)
    halves = torch.tensor([[at & _LOW, at >> 32] for at in positions], dtype=torch.int64)
    halves = moved(halves, device)
    place = torch.arange(words, device=device).unsqueeze(0)
    rows = max(1, _MOST_COUNTERS // max(words, 1))
    for begin in range(0, len(positions), rows):
        low, high = halves[begin : begin + rows, :1], halves[begin : begin + rows, 1:]
        a, b, c, d = philox((place, torch.zeros_like(place), low, high), number)
        pairs = torch.stack((*_box_muller(a, b), *_box_muller(c, d)), dim=2)
        out[begin : begin + rows] = pairs.flatten(1)[:, :places]
    return out.view(len(positions), *shape)


def _box_muller(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    size = (-2 * ((first >> 8) + 1).float().mul_(2.0**-24).log_()).sqrt_()
    angle = (second >> 8).float().mul_(2 * math.pi * 2.0**-24)
    return size * angle.cos(), size * angle.sin()
