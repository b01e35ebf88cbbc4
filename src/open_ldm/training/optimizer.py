"""AdamW (fused), its learning rate as a function of samples seen, and its state as named tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from open_ldm.core.errors import CheckpointError
from open_ldm.training.settings import OptimizerConfig

_STATE = ("exp_avg", "exp_avg_sq", "step")


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """Build AdamW over all parameters of a model, in torch's fused kernel."""
    return torch.optim.AdamW(
        model.parameters(),
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=True,
    )


def learning_rate_at(config: OptimizerConfig, samples_seen: int, samples: int) -> float:
    """Learning rate of one update: linear warm-up, then constant, or linear or cosine decay to 0.

    Args:
        config: The peak rate and its course.
        samples_seen: At the end of the update.
        samples: Of the whole training.

    Returns:
        The rate, at most `config.learning_rate`.
    """
    if samples_seen < config.warmup_samples:
        return config.learning_rate * samples_seen / config.warmup_samples
    done = (samples_seen - config.warmup_samples) / max(1, samples - config.warmup_samples)
    match config.decay:
        case "linear":
            return config.learning_rate * max(0.0, 1 - done)
        case "cosine":
            return config.learning_rate * (1 + math.cos(math.pi * min(1.0, done))) / 2
        case _:
            return config.learning_rate


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.AdamW) -> dict[str, Tensor]:
    """The optimiser's state as named tensors.

    Returns:
        {`exp_avg.NAME`, `exp_avg_sq.NAME`, `step.NAME`: tensor} for every parameter NAME; empty before the first update.
    """
    tensors = {}
    for name, parameter in model.named_parameters():
        for entry in _STATE:
            if entry in optimizer.state.get(parameter, {}):
                tensors[f"{entry}.{name}"] = optimizer.state[parameter][entry]
    return tensors


def empty_state(model: nn.Module, optimizer: torch.optim.AdamW, *, begun: bool) -> None:
    """Give the optimiser a state of zeros, to be read into, or none where no update has been made yet (not `begun`)."""
    optimizer.state.clear()
    for parameter in model.parameters() if begun else ():
        moments: dict[str, Tensor] = {entry: torch.zeros_like(parameter) for entry in _STATE if entry != "step"}
        # The fused kernel wants `step` as a float32 tensor on the parameter's own device.
        optimizer.state[parameter] = {**moments, "step": torch.zeros((), device=parameter.device)}


def restore_optimizer(model: nn.Module, optimizer: torch.optim.AdamW, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave.

    Args:
        model: Whose parameters are optimised.
        optimizer: Its state is replaced.
        tensors: Named tensors; none for a state before the first update.

    Raises:
        CheckpointError: The tensors belong to other parameters.
    """
    if not tensors:
        optimizer.state.clear()
        return
    wanted = {f"{entry}.{name}" for name, _ in model.named_parameters() for entry in _STATE}
    if wanted != set(tensors):
        odd = sorted(wanted.symmetric_difference(tensors))[0]
        raise CheckpointError(f"the optimiser's state does not fit the model (first difference: {odd})")
    for name, parameter in model.named_parameters():
        # The fused kernel wants `step` as a float32 tensor on the parameter's own device.
        optimizer.state[parameter] = {entry: tensors[f"{entry}.{name}"].clone().to(parameter.device) for entry in _STATE}
