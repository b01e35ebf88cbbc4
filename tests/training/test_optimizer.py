"""The optimiser: torch's AdamW to the bit, a step that may be skipped, and starts without torch's compiler."""

from __future__ import annotations

import subprocess
import sys

import torch
from torch import Tensor, nn

from open_ldm.core.shapes_only import shapes_only
from open_ldm.training.optimizer import Optimizer
from open_ldm.training.settings import OptimizerConfig

CONFIG = OptimizerConfig(learning_rate=3e-3, betas=(0.8, 0.97), eps=1e-6, weight_decay=0.1)


def model_of(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(7, 5), nn.LayerNorm(5), nn.Linear(5, 3))


def give_gradients(model: nn.Module, seed: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=draws)


def test_steps_are_those_of_torchs_adamw() -> None:
    ours, theirs = model_of(0), model_of(0)
    optimizer = Optimizer(ours, CONFIG)
    reference = torch.optim.AdamW(
        theirs.parameters(),
        lr=CONFIG.learning_rate,
        betas=CONFIG.betas,
        eps=CONFIG.eps,
        weight_decay=CONFIG.weight_decay,
        fused=True,
    )
    for update in range(5):
        rate = 3e-3 / (update + 1)
        give_gradients(ours, update)
        give_gradients(theirs, update)
        for group in reference.param_groups:
            group["lr"] = rate
        optimizer.step(rate)
        reference.step()
    for name, parameter in ours.named_parameters():
        other = dict(theirs.named_parameters())[name]
        assert torch.equal(parameter, other)
        for entry in ("exp_avg", "exp_avg_sq", "step"):
            assert torch.equal(optimizer.tensors()[f"{entry}.{name}"], reference.state[other][entry])


def _values(model: nn.Module, optimizer: Optimizer) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in (*model.parameters(), *optimizer.tensors().values())]


def test_a_skipped_step_changes_nothing() -> None:
    model = model_of(1)
    optimizer = Optimizer(model, CONFIG)
    give_gradients(model, 0)
    optimizer.step(1e-3, torch.tensor(0.0))
    before = _values(model, optimizer)
    give_gradients(model, 1)
    optimizer.step(1e-3, torch.tensor(1.0))
    assert all(torch.equal(a, b) for a, b in zip(before, _values(model, optimizer), strict=True))
    optimizer.step(1e-3, torch.tensor(0.0))
    assert not any(torch.equal(a, b) for a, b in zip(before, _values(model, optimizer), strict=True))


def test_a_parameter_without_gradient_stays_and_the_state_can_be_read_back() -> None:
    model = model_of(2)
    optimizer = Optimizer(model, CONFIG)
    give_gradients(model, 0)
    still = next(model.parameters())
    still.grad, value = None, still.detach().clone()
    optimizer.step(1e-3)
    assert torch.equal(still, value)
    again = Optimizer(model, CONFIG)
    again.restore(optimizer.tensors())
    assert all(torch.equal(tensor, optimizer.tensors()[name]) for name, tensor in again.tensors().items())


def test_shapes_alone_are_those_of_the_model() -> None:
    with shapes_only():
        model = nn.ModuleDict(
            {"words": nn.Embedding(5, 3), "places": nn.ParameterList([torch.randn(4, 3, requires_grad=True)])}
        )
    assert {name: tuple(each.shape) for name, each in model.named_parameters()} == {"words.weight": (5, 3), "places.0": (4, 3)}
    assert all(each.is_meta for each in model.parameters())


def test_neither_loads_the_compiler_of_torch() -> None:
    program = """
import sys
import torch
from torch import nn
from open_ldm.core.shapes_only import shapes_only
from open_ldm.training.optimizer import Optimizer
from open_ldm.training.settings import OptimizerConfig
with shapes_only():
    nn.Embedding(5, 3), torch.randn(3, 2), nn.Linear(3, 2)
model = nn.Linear(3, 2)
model(torch.ones(3)).sum().backward()
Optimizer(model, OptimizerConfig()).step(1e-3)
print("torch._dynamo" in sys.modules)
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert told.stdout.strip() == "False"
