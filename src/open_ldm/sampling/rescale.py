"""Rescaled guidance: a guided estimate gets back the deviation that it has without guidance (Lin et al. 2023,
arXiv 2305.08891, section 3.4)."""

from __future__ import annotations

from torch import Tensor


def rescaled(guided: Tensor, conditional: Tensor, share: float) -> Tensor:
    """Compute share (guided std(conditional) / std(guided)) + (1 - share) guided, with the deviations of each picture.

    Differs from the paper, where it acts on the network's v: here on x_0, which is what guidance over-exposes, and the same for
    every kind of prediction. At pure noise, where v is -x_0, both are the same.

    Args:
        guided: Estimates of x_0 [B, C, H, W].
        conditional: Those of the most conditional branch.
        share: In [0, 1]; 0 changes nothing. The paper takes 0.7.
    """
    dims = tuple(range(1, guided.ndim))
    kept = conditional.std(dims, keepdim=True) / guided.std(dims, keepdim=True).clamp(min=1e-12)
    return guided * (share * kept + 1 - share)
