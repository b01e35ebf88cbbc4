"""A linear layer whose weight follows the activations' dtype."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class Linear(nn.Linear):
    """y = x W^T + b with W and b cast to x's dtype.

    Parameters and their gradients stay float32 for the optimiser. A network computes in bf16 by casting its activations once,
    without autocast, which would cast some that are bf16 already.

    Attributes:
        parts: Matrices that the weight is made of, one above the other, such as 3 for queries, keys and values.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, *, parts: int = 1) -> None:
        super().__init__(in_features, out_features, bias)
        self.parts = parts

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., in] to [..., out]."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self.weight.to(x.dtype), bias)
