"""Muon: steps along the orthogonal factor of a matrix's running mean gradient (Jordan et al. 2024), by torch's own optimiser.

The orthogonal factor of M = U S V^T is U V^T, here by five Newton-Schulz steps. A weight that holds several matrices, such as
those of queries, keys and values, is taken apart first: together the one with the largest gradient would decide for all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from open_ldm.core.errors import ConfigError
from open_ldm.denoisers.blocks.linear import Linear
from open_ldm.training.settings import MuonConfig


def matrices_of(blocks: Sequence[nn.Module]) -> dict[Tensor, int]:
    """Find the weights of all linear layers of the blocks, and how many matrices each holds."""
    layers = (module for block in blocks for module in block.modules())
    return {layer.weight: layer.parts for layer in layers if isinstance(layer, Linear)}


class MatrixOptimizer:
    """Muon on matrices that may lie one above the other in a parameter.

    Args:
        matrices: Parameters [parts m, n], and the number of parts.
        config: Rate and momentum.
        weight_decay: Decoupled, times the learning rate.

    Attributes:
        momenta: Running mean of each parameter's gradient, of its shape; none before the first step.

    Raises:
        ConfigError: There are no matrices.
    """

    def __init__(self, matrices: Mapping[Tensor, int], config: MuonConfig, weight_decay: float) -> None:
        if not matrices:
            raise ConfigError(
                "training.optimizer.muon changes nothing: the blocks of this model have no matrices",
                fix="training.optimizer.muon=null",
            )
        self.matrices, self.rate = dict(matrices), config.rate
        self.momenta: dict[Tensor, Tensor] = {}
        # A part is a parameter of its own over the same memory.
        self._parts = {whole: [nn.Parameter(part) for part in whole.detach().chunk(n)] for whole, n in matrices.items()}
        self._muon = torch.optim.Muon(
            [part for parts in self._parts.values() for part in parts],
            weight_decay=weight_decay,
            momentum=config.momentum,
            adjust_lr_fn="match_rms_adamw",
        )

    def step(self, rate: float) -> None:
        """Change the matrices by their gradients; `rate` is the learning rate of AdamW."""
        if not self.momenta:
            self.empty(begun=True)
        for whole, parts in self._parts.items():
            gradients = [None] * len(parts) if whole.grad is None else whole.grad.chunk(len(parts))
            for part, gradient in zip(parts, gradients, strict=True):
                part.grad = gradient
        for group in self._muon.param_groups:
            group["lr"] = self.rate * rate
        self._muon.step()  # type: ignore[no-untyped-call]
        self._muon.zero_grad()

    def empty(self, *, begun: bool) -> None:
        """Take running means of zero, or none where no update has been made yet (not `begun`)."""
        self._muon.state.clear()
        self.momenta = {whole: torch.zeros_like(whole, requires_grad=False) for whole in self.matrices} if begun else {}
        for whole, momentum in self.momenta.items():
            for part, own in zip(self._parts[whole], momentum.chunk(self.matrices[whole]), strict=True):
                self._muon.state[part]["momentum_buffer"] = own
