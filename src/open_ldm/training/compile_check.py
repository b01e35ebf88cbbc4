"""Comparing a compiled block with the same block as written, on one batch: what it returns and every gradient.

A compiler may be wrong without an error (pytorch/pytorch#191433: sums of float32 embeddings before a norm). The block has
random weights here: those that start at zero would hide what lies behind them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from open_ldm.core.nested import leaves, with_leaves

_ROUNDING = {torch.bfloat16: 2**-8, torch.float16: 2**-11, torch.float32: 2**-11}
"""Relative error of one rounding; CUDA rounds the factors of float32 products to 11 bits (TF32)."""
_SMALL = 0.01
"""Gradients whose numbers are so much smaller than the largest ones are compared with that much of those."""


@dataclass(frozen=True)
class Call:
    """What a block was called with."""

    given: tuple[Any, ...]
    named: dict[str, Any]


def record_calls(run: Callable[[], object], blocks: Sequence[nn.Module]) -> list[Call]:
    """Run a network forwards and return the first call of each block, without the graph that its inputs came from."""
    calls: dict[int, Call] = {}

    def remember(number: int) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        """Make a hook that keeps the first call of a block."""

        def hook(block: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
            calls.setdefault(number, with_leaves(Call(given, named), _leaf))

        return hook

    hooks = [block.register_forward_pre_hook(remember(number), with_kwargs=True) for number, block in enumerate(blocks)]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return [calls[number] for number in range(len(blocks))]


def _leaf(value: Any) -> Any:
    return value.detach().clone().requires_grad_(value.requires_grad) if isinstance(value, Tensor) else value


def with_random_weights(block: nn.Module, device: torch.device) -> Any:
    """Copy a block, which may have no values, with random weights, the same every time."""
    twin = copy.deepcopy(block).to_empty(device=device).requires_grad_()
    source = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            numbers = torch.randn(parameter.shape, generator=source)
            fan_in = max(1, parameter.numel() // len(parameter))
            middle = 1.0 if parameter.ndim == 1 and name.endswith("weight") else 0.0
            parameter.copy_(middle + numbers * (0.1 if parameter.ndim == 1 else fan_in**-0.5))
    return twin


def difference(block: Any, compiled: Callable[..., Any], call: Call, dtype: torch.dtype) -> str:
    """Compare a block's compiled forward pass with the one as written.

    The error of both against float32 is measured, relative to the norm of each tensor. The compiled one may have twice the
    other's and two roundings more.

    Args:
        block: As written.
        compiled: Computes the same.
        call: What both are called with.
        dtype: Of matrix products.

    Returns:
        What differs, in words; empty where nothing does.
    """
    written, found = run_once(block, block, call), run_once(compiled, block, call)
    exact = written if dtype == torch.float32 else run_once(block, block, with_leaves(call, lambda leaf: _wider(leaf, dtype)))
    scale = max(float(each.square().mean().sqrt()) for name, each in exact.items() if name.startswith("gradient"))
    for name, reference in exact.items():
        least = 0.0 if name.startswith("output") else _SMALL * scale * reference.numel() ** 0.5
        size = max(float(reference.norm()), least, 1e-30)
        ours, theirs = (float((each[name] - reference).norm()) / size for each in (found, written))
        if not ours <= 2 * theirs + 2 * _ROUNDING[dtype]:
            return f"{name} is off by {ours:.2g} of its size, as written by {theirs:.2g}"
    return ""


def run_once(forward: Callable[..., Any], block: nn.Module, call: Call) -> dict[str, Tensor]:
    """Run forwards and backwards.

    Args:
        forward: Of the block, as written or compiled.
        block: Whose parameters get gradients.
        call: What it is called with.

    Returns:
        By name, in float32: what it returns, and the gradients of a random sum of that by inputs and parameters.
    """
    call = with_leaves(call, _leaf)
    outputs = [leaf for leaf in leaves(forward(*call.given, **call.named)) if isinstance(leaf, Tensor)]
    source = torch.Generator().manual_seed(1)
    sums = [(each.float() * torch.randn(each.shape, generator=source).to(each.device)).sum() for each in outputs]
    inputs = [leaf for leaf in leaves([call.given, call.named]) if isinstance(leaf, Tensor) and leaf.requires_grad]
    named = {f"input {number}": each for number, each in enumerate(inputs)} | dict(block.named_parameters())
    gradients = torch.autograd.grad(torch.stack(sums).sum(), list(named.values()), allow_unused=True)
    found = {f"output {number}": each.detach().float() for number, each in enumerate(outputs)}
    pairs = zip(named, gradients, strict=True)
    return found | {f"gradient of {name}": each.float() for name, each in pairs if each is not None}


def _wider(leaf: Any, dtype: torch.dtype) -> Any:
    """The same in float32: tensors of `dtype`, and `dtype` where it is itself an argument."""
    if isinstance(leaf, Tensor) and leaf.dtype == dtype:
        return leaf.detach().float().requires_grad_(leaf.requires_grad)
    return torch.float32 if leaf is dtype else leaf
