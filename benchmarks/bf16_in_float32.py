"""The arithmetic of a processor with bf16, on one without: each matrix product is made in float32 and rounded to bf16 once.

A product of two bf16 numbers is exact in float32, and processors with bf16 add them in float32 too, so the results differ from
theirs only by the order of the sums. torch's own kernels for other processors take 30 times as long for the same (a product of
2048x128 and 128x512 on an AMD EPYC of Zen 1). This shows what a number format does to a training, not how long one takes.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

_KERNELS = torch.library.Library("aten", "IMPL")


def emulate(*, convolutions: bool = False) -> None:
    """Replace torch's kernels for products of matrices on the CPU in this process, for all programs in it.

    Args:
        convolutions: Replace those for convolutions too, of which processors with bf16 make products as well.
    """
    kernels = {"mm": _mm, "addmm": _addmm, "bmm": _bmm}
    if convolutions:
        kernels |= {name: _in_float32(name) for name in ("convolution", "convolution_backward")}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Warning only once")  # that a kernel is replaced is what is meant
        for name, kernel in kernels.items():
            _KERNELS.impl(name, kernel, "CPU")


def _in_float32(name: str) -> Any:
    """torch's own kernel of this name, called with float32 in place of bf16; what it returns is rounded once."""
    own, cpu = torch.library.get_kernel(f"aten::{name}", "CPU"), torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)

    def kernel(first: Tensor, *others: Any) -> Any:
        arguments = [_wide(each) if isinstance(each, Tensor) else each for each in (first, *others)]
        found = own.call_boxed(cpu, *arguments)
        if isinstance(found, Tensor):
            return found.to(first.dtype)
        return tuple(None if each is None else each.to(first.dtype) for each in found)

    return kernel


def _mm(left: Tensor, right: Tensor) -> Tensor:
    wide = _wide(left), _wide(right)
    out = wide[0].new_empty(left.shape[0], right.shape[1])
    return torch.ops.aten.mm.out(*wide, out=out).to(left.dtype)


def _addmm(added: Tensor, left: Tensor, right: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    wide = _wide(added), _wide(left), _wide(right)
    out = wide[1].new_empty(left.shape[0], right.shape[1])
    return torch.ops.aten.addmm.out(*wide, beta=beta, alpha=alpha, out=out).to(left.dtype)


def _bmm(left: Tensor, right: Tensor) -> Tensor:
    wide = _wide(left), _wide(right)
    out = wide[0].new_empty(left.shape[0], left.shape[1], right.shape[2])
    return torch.ops.aten.bmm.out(*wide, out=out).to(left.dtype)


def _wide(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor
