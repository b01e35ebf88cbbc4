"""What this machine reaches at the shapes of a network: its products and convolutions, each alone, at its best."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

TIMES = 5
"""The best of so many counts."""
_Shape = tuple[Any, ...]


def shapes_of(network: nn.Module, compute: Callable[[], object]) -> Counter[_Shape]:
    """Count the products and convolutions of one forward pass by their shapes: ("product", M, K, N) or ("convolution", ...)."""
    found: Counter[_Shape] = Counter()

    def look(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        x = inputs[0]
        if isinstance(layer, nn.Linear):
            found["product", x.numel() // x.shape[-1], layer.in_features, layer.out_features] += 1
        elif isinstance(layer, nn.Conv2d):
            found["convolution", tuple(x.shape), tuple(layer.weight.shape), layer.stride, layer.padding] += 1

    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    hooks = [layer.register_forward_pre_hook(look) for layer in layers]
    try:
        with torch.no_grad():
            compute()
    finally:
        for hook in hooks:
            hook.remove()
    return found


def reachable_speed(shapes: Counter[_Shape], device: torch.device, dtype: torch.dtype) -> float:
    """Return operations per second of all these products one after the other, each measured alone; 0 without any."""
    operations = seconds = 0.0
    for shape, count in shapes.items():
        work, per_call = _work(shape, device, dtype)
        best = min(_timed(work, device) for _ in range(TIMES))
        operations += count * per_call
        seconds += count * best
    return operations / seconds if seconds else 0.0


def _work(shape: _Shape, device: torch.device, dtype: torch.dtype) -> tuple[Callable[[], object], float]:
    if shape[0] == "product":
        rows, inner, columns = shape[1:]
        x, weight = (torch.randn(size, inner, device=device).to(dtype) for size in (rows, columns))
        return lambda: F.linear(x, weight), 2.0 * rows * inner * columns
    _, size, kernel, stride, padding = shape
    x, weight = torch.randn(size, device=device).to(dtype), torch.randn(kernel, device=device).to(dtype)
    out = F.conv2d(x, weight, stride=stride, padding=padding)
    return lambda: F.conv2d(x, weight, stride=stride, padding=padding), 2.0 * out.numel() * weight[0].numel()


def _timed(work: Callable[[], object], device: torch.device) -> float:
    started = time.perf_counter()
    with torch.no_grad():
        work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
