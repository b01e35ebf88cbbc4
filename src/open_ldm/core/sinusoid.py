"""Sinusoidal features of numbers: the common way in for times, sizes and crops."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sinusoidal_features(numbers: Tensor, count: int, shift: int = 0) -> Tensor:
    """[...] -> [..., count]: [cos(x f_i) | sin(x f_i)] with f_i = 10000^(-i / (count / 2 - shift)), computed in float32."""
    half = count // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32, device=numbers.device) / (half - shift))
    angles = numbers.float().unsqueeze(-1) * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)
