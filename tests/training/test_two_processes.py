from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from open_ldm.core.distributed import World
from open_ldm.training.plan import plan_batches
from tests.helpers import DENOISERS
from tests.processes import finish, start_processes
from tests.training.small_run import (
    BATCH_SIZE,
    all_tensors,
    batches_of,
    encoder,
    run_updates,
    same_bits,
    settings,
    small_trainer,
)
from tests.training.worker import ALIKE, BIT_EQUAL_UPDATES

UPDATES = 5


@pytest.fixture(autouse=True)
def products_as_in_the_processes() -> Iterator[None]:
    """A training in this process, of another test, may have chosen other kernels for products, which round otherwise."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


def test_two_processes_train_like_one(tmp_path: Path) -> None:
    processes = start_processes("tests.training.worker", [str(tmp_path), str(UPDATES)], 2)
    one = small_trainer()
    wanted = [update.loss for update in run_updates(one, UPDATES)]
    one.update([])
    finish(processes)
    reported = json.loads((tmp_path / "reported.json").read_text())
    assert reported["losses"][0] == pytest.approx(wanted[0], rel=1e-6)
    assert reported["losses"] == pytest.approx(wanted, rel=1e-5)
    assert reported["stop"] == [[0, True], [1, True]]  # a signal that reaches one process stops all
    for name in ALIKE:
        sum_of_two = added(name)
        for rank in range(2):
            assert same_bits(load_file(tmp_path / f"{name}-{rank}.safetensors"), sum_of_two), name
    found = load_file(tmp_path / "end.safetensors")
    for name, tensor in all_tensors(one).items():
        torch.testing.assert_close(determined(name, found[name]), determined(name, tensor), rtol=1e-5, atol=1e-5)


def added(denoiser: str) -> dict[str, Tensor]:
    """What two processes must end with, bit for bit: here one process adds the gradients of their shares."""
    trainer = small_trainer(settings(), DENOISERS[denoiser])
    for _ in range(BIT_EQUAL_UPDATES):
        shares = []
        for rank in range(2):
            batches = batches_of(plan_batches(BATCH_SIZE, 2, World(rank, 2)), trainer.state.counters.samples_seen)
            loss = trainer._accumulate_gradients([encoder().encode(batch) for batch in islice(batches, BATCH_SIZE // 4)])
            shares.append((loss, [gradient.clone() for gradient in trainer._gradients()]))
            trainer.state.optimizer.zero_grad()
        (first_loss, first), (second_loss, second) = shares
        for parameter, one, other in zip(trainer.state.model.parameters(), first, second, strict=True):
            parameter.grad = one + other
        assert trainer._step(first_loss + second_loss).applied
    return all_tensors(trainer)


def determined(name: str, tensor: Tensor) -> Tensor:
    """Without the biases of keys: softmax ignores them, so their gradient is rounding, and Adam makes steps of it."""
    if not name.endswith("qkv.bias") or tensor.ndim == 0:
        return tensor
    query, _, value = tensor.chunk(3)
    return torch.cat([query, value])
