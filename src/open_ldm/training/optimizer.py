"""AdamW (fused), Muon beside it for matrices on request, and their state as named tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

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
        self.names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
        self.muon = None if config.muon is None else MatrixOptimizer(matrices_of(blocks), config.muon, config.weight_decay)
        taken = set() if self.muon is None else set(self.muon.matrices)
        self.adamw = torch.optim.AdamW(
            [parameter for parameter in self.names if parameter not in taken],
            lr=config.learning_rate,
            betas=config.betas,
            eps=config.eps,
            weight_decay=config.weight_decay,
            fused=True,
        )

    def step(self, rate: float) -> None:
        """Change all parameters by their gradients, at a learning rate."""
        for group in self.adamw.param_groups:
            group["lr"] = rate
        self.adamw.step()
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
                if entry in self.adamw.state.get(parameter, {}):
                    tensors[f"{entry}.{name}"] = self.adamw.state[parameter][entry]
        for matrix, momentum in {} if self.muon is None else self.muon.momenta.items():
            tensors[f"{_MOMENTUM}.{self.names[matrix]}"] = momentum
        return tensors

    def empty(self, *, begun: bool) -> None:
        """Take a state of zeros, to be read into, or none where no update has been made yet (not `begun`)."""
        self.adamw.state.clear()
        for group in self.adamw.param_groups:
            for parameter in group["params"] if begun else ():
                moments: dict[str, Tensor] = {entry: torch.zeros_like(parameter) for entry in _STATE if entry != "step"}
                # The fused kernel wants `step` as a float32 tensor on the parameter's own device.
                self.adamw.state[parameter] = {**moments, "step": torch.zeros((), device=parameter.device)}
        if self.muon is not None:
            self.muon.empty(begun=begun)

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
