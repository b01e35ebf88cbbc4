"""Muon: steps along the orthogonal factor of a matrix's running mean gradient (Jordan et al. 2024; Liu et al. 2025).

The orthogonal factor of G = U S V^T is U V^T. A weight that holds several matrices, such as those of queries, keys and values,
is taken apart first: together the one with the largest gradient would decide for all. On a card matrices of one shape are
multiplied together. torch.optim.Muon takes them one by one, and computes in bf16 also on processors that only imitate it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from open_ldm.core.device import multiplies_bf16
from open_ldm.core.errors import ConfigError
from open_ldm.denoisers.blocks.linear import Linear
from open_ldm.training.settings import MuonConfig

_ROUNDS = 5
_QUINTIC = (3.4445, -4.7750, 2.0315)
"""Of s -> a s + b s^3 + c s^5, by which small singular values grow fast and large ones stay near 1 (Jordan et al. 2024)."""
_RMS = 0.2
"""Root mean square of an update of AdamW, about (Liu et al. 2025, arXiv 2502.16982, equation 4)."""
_SMALLEST_NORM = 1e-7
_NUMBERS_TOGETHER = 1 << 24
"""Of matrices that are multiplied in one call, so that a large model's are not all copied at once: 64 MB in float32."""


def matrices_of(blocks: Sequence[nn.Module]) -> dict[Tensor, int]:
    """Find the weights of all linear layers of the blocks, and how many matrices each holds."""
    layers = (module for block in blocks for module in block.modules())
    return {layer.weight: layer.parts for layer in layers if isinstance(layer, Linear)}


def orthogonal_factors(matrices: Tensor) -> Tensor:
    """Compute U V^T of each matrix U S V^T about, by five rounds of Newton and Schulz's iteration.

    Args:
        matrices: [k, m, n].

    Returns:
        [k, m, n] of the same dtype. Singular values above 1 % of a matrix's Frobenius norm end between 0.68 and 1.14.
    """
    a, b, c = _QUINTIC
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=_SMALLEST_NORM)
    for _ in range(_ROUNDS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def together(matrix: Tensor) -> int:
    """Return how many matrices of its shape are multiplied in one call: on a CPU one, which took up to a quarter less time."""
    return 1 if matrix.device.type == "cpu" else max(1, _NUMBERS_TOGETHER // matrix.numel())


def products_on(device: torch.device) -> torch.dtype:
    """Return the format in which matrices are multiplied on a device: bfloat16 where the chip multiplies it, else float32."""
    return torch.bfloat16 if multiplies_bf16(device) else torch.float32


def _move(alike: Sequence[tuple[Tensor, Tensor]], rate: float, dtype: torch.dtype) -> None:
    """Move matrices of one shape along the orthogonal factors of their directions, as far as AdamW would."""
    factors = orthogonal_factors(torch.stack([towards for _, towards in alike]).to(dtype))
    for (matrix, _), factor in zip(alike, factors, strict=True):
        matrix.add_(factor, alpha=-rate * _RMS * math.sqrt(max(matrix.shape)))


class MatrixOptimizer:
    """Muon on matrices that may lie one above the other in a parameter.

    Args:
        matrices: Parameters [parts m, n], and the number of parts.
        config: Rate and momentum.
        weight_decay: Decoupled, times the learning rate.

    Attributes:
        momenta: Running mean of each parameter's gradient, of its shape; none before the first step.
        products: Format in which matrices are multiplied; None takes that of `products_on` their device.

    Raises:
        ConfigError: There are no matrices.
    """

    def __init__(self, matrices: Mapping[Tensor, int], config: MuonConfig, weight_decay: float) -> None:
        if not matrices:
            raise ConfigError(
                "training.optimizer.muon changes nothing: the blocks of this model have no matrices",
                fix="training.optimizer.muon=null",
            )
        self.matrices, self.config, self.weight_decay = dict(matrices), config, weight_decay
        self.momenta: dict[Tensor, Tensor] = {}
        self.products: torch.dtype | None = None

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Change the matrices that have a gradient; `rate` is the learning rate of AdamW."""
        if not self.momenta:
            self.empty(begun=True)
        rate, products = self.config.rate * rate, self.products or products_on(next(iter(self.matrices)).device)
        waiting: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = {}
        for whole, parts in self.matrices.items():
            if whole.grad is None:
                continue
            whole.mul_(1 - rate * self.weight_decay)
            direction = self._direction(whole, whole.grad)
            for part, towards in zip(whole.chunk(parts), direction.chunk(parts), strict=True):
                alike = waiting.setdefault(tuple(part.shape), [])
                alike.append((part, towards))
                if len(alike) >= together(part):
                    _move(waiting.pop(tuple(part.shape)), rate, products)
        for alike in waiting.values():
            _move(alike, rate, products)

    def _direction(self, whole: Tensor, gradient: Tensor) -> Tensor:
        """Take the gradient into its running mean, and return that as it would be after the same gradient again (Nesterov)."""
        momentum = self.config.momentum
        mean = self.momenta[whole].lerp_(gradient, 1 - momentum)
        return gradient.lerp(mean, momentum)

    def empty(self, *, begun: bool) -> None:
        """Take running means of zero, or none where no update has been made yet (not `begun`)."""
        self.momenta = {whole: torch.zeros_like(whole, requires_grad=False) for whole in self.matrices} if begun else {}
