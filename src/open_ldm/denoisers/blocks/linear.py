"""A linear layer whose weight follows the activations' dtype."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class Linear(nn.Linear):
    """y = x W^T + b with W and b cast to x's dtype.

    Parameters stay float32 for the optimiser; a network computes in bf16 by casting its activations once, without autocast
    and its repeated casts of what is bf16 already. Gradients arrive in float32.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self.weight.to(x.dtype), bias)
