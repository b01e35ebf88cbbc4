"""AdamW (fused), Muon beside it for matrices on request, and their state as named tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from open_ldm.core.errors import CheckpointError
from open_ldm.training.muon import MatrixOptimizer, matrices_of
from open_ldm.training.settings import OptimizerConfig

_STATE = ("exp_avg", "exp_avg_sq", "step")
_MOMENTUM = "momentum"


class Optimizer:
    """One step for all parameters of a model: AdamW in torch's fused kernel, for some matrices Muon.

    Args:
        model: Whose parameters are optimised.
        config: How.
        blocks: Its repeated parts, whose matrices Muon takes where the settings ask for it.

    Raises:
        ConfigError: Muon is asked for, and the blocks have no matrices.
    """

    def __init__(self, model: nn.Module, config: OptimizerConfig, blocks: Sequence[nn.Module] = ()) -> None:
        self.config = config
        self.names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
        self.muon = None if config.muon is None else MatrixOptimizer(matrices_of(blocks), config.muon, config.weight_decay)
        taken = set() if self.muon is None else set(self.muon.matrices)
        self._parameters = [parameter for parameter in self.names if parameter not in taken]
        self._moments: dict[Tensor, dict[str, Tensor]] = {}

    def multiply_in(self, products: torch.dtype | None) -> None:
        """Let Muon multiply matrices in this format; None takes that of the chip. Nothing changes without Muon."""
        if self.muon is not None:
            self.muon.products = products

    def step(self, rate: float, skipped: Tensor | None = None) -> None:
        """Change all parameters that have a gradient.

        Args:
            rate: The learning rate.
            skipped: 1 on the parameters' device where this step must change nothing, otherwise 0; AdamW alone obeys it.
        """
        if not self._moments:
            self._moments = self._zeros()
        changed = [parameter for parameter in self._parameters if parameter.grad is not None]
        moments = [self._moments[parameter] for parameter in changed]
        # torch.optim.AdamW would do the same and load torch's compiler for it: 1.5 seconds of every start.
        with torch.no_grad():
            adamw(
                changed,
                [parameter.grad for parameter in changed if parameter.grad is not None],
                [entries["exp_avg"] for entries in moments],
                [entries["exp_avg_sq"] for entries in moments],
                [],
                [entries["step"] for entries in moments],
                fused=True,
                found_inf=skipped,
                amsgrad=False,
                beta1=self.config.betas[0],
                beta2=self.config.betas[1],
                lr=rate,
                weight_decay=self.config.weight_decay,
                eps=self.config.eps,
                maximize=False,
            )
        if self.muon is not None:
            self.muon.step(rate)

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.names:
            parameter.grad = None

    def tensors(self) -> dict[str, Tensor]:
        """Return the state as named tensors, not copied.

        Returns:
            {`exp_avg.NAME`, `exp_avg_sq.NAME`, `step.NAME`: tensor} for every parameter NAME of AdamW, and
            {`momentum.NAME`: tensor} for those of Muon; empty before the first update.
        """
        tensors = {}
        for parameter, name in self.names.items():
            for entry in _STATE:
                if parameter in self._moments:
                    tensors[f"{entry}.{name}"] = self._moments[parameter][entry]
        for matrix, momentum in {} if self.muon is None else self.muon.momenta.items():
            tensors[f"{_MOMENTUM}.{self.names[matrix]}"] = momentum
        return tensors

    def empty(self, *, begun: bool) -> None:
        """Take a state of zeros, to be read into, or none where no update has been made yet (not `begun`)."""
        self._moments = self._zeros() if begun else {}
        if self.muon is not None:
            self.muon.empty(begun=begun)

    def _zeros(self) -> dict[Tensor, dict[str, Tensor]]:
        """Both moments and the count of steps of every parameter; the fused kernel wants that as float32 on the same device."""
        return {
            parameter: {
                "exp_avg": torch.zeros_like(parameter, requires_grad=False),
                "exp_avg_sq": torch.zeros_like(parameter, requires_grad=False),
                "step": torch.zeros((), device=parameter.device),
            }
            for parameter in self._parameters
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `tensors` gave; they are copied.

        Args:
            tensors: By name; none for a state before the first update.

        Raises:
            CheckpointError: They belong to other parameters, or to another optimiser.
        """
        self.empty(begun=bool(tensors))
        own = self.tensors()
        if own.keys() != tensors.keys():
            odd = sorted(own.keys() ^ tensors.keys())[0]
            raise CheckpointError(f"the optimiser's state does not fit the model (first difference: {odd})")
        for name, tensor in own.items():
            tensor.copy_(tensors[name])
