"""Sinusoidal features of numbers, which embed times, sizes and crops."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sinusoidal_features(numbers: Tensor, count: int, shift: int = 0) -> Tensor:
    """Compute [cos(x f_i) | sin(x f_i)] with f_i = 10000^(-i / (count / 2 - shift)), in float32.

    Args:
        numbers: Numbers x of any shape [...].
        count: Number of features, even.
        shift: 0, or 1 for the variant in which the last frequency is exactly 1 / 10000.

    Returns:
        Features [..., count], float32.
    """
    half = count // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32, device=numbers.device) / (half - shift))
    angles = numbers.float().unsqueeze(-1) * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)
