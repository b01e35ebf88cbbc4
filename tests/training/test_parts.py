"""Settings, learning rate, EMA, optimiser state, plan, draws, fingerprint and signals."""

from __future__ import annotations

import copy
import math
import os
import signal
import threading
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from open_ldm.autoencoders import Posterior
from open_ldm.core.device import Machine
from open_ldm.core.distributed import World
from open_ldm.core.errors import CheckpointError, ConfigError
from open_ldm.core.signals import StopRequest, process_lives_on
from open_ldm.training.ema import Ema
from open_ldm.training.fingerprint import compare, fingerprint
from open_ldm.training.learning_rate import learning_rate_at
from open_ldm.training.optimizer import Optimizer
from open_ldm.training.plan import plan_batches
from open_ldm.training.settings import EmaConfig, OptimizerConfig
from tests.helpers import batch_at, randn, small_model
from tests.training.small_run import CPU, STATS, encoder, noising, positions_of, settings


def test_learning_rate_rises_linearly_then_stays_or_falls() -> None:
    for decay, half, end in (("constant", 1.0, 1.0), ("linear", 0.5, 0.0), ("cosine", 0.5, 0.0)):
        config = OptimizerConfig(learning_rate=2.0, warmup_samples=100, decay=decay)
        rates = [learning_rate_at(config, samples, 1100) / 2 for samples in (0, 25, 50, 100, 600, 1100, 1150)]
        assert rates == pytest.approx([0, 0.25, 0.5, 1, half, end, end], abs=1e-12)
    config = OptimizerConfig(learning_rate=2.0, warmup_samples=100, decay="cosine")
    assert learning_rate_at(config, 350, 1100) == pytest.approx(1 + math.cos(math.pi / 4))


def test_learning_rate_without_warm_up_or_with_nothing_else() -> None:
    assert learning_rate_at(OptimizerConfig(learning_rate=2.0), 0, 10) == 2
    only = OptimizerConfig(learning_rate=2.0, warmup_samples=10, decay="cosine")
    assert learning_rate_at(only, 5, 10) == 1
    assert math.isfinite(learning_rate_at(only, 10, 10))


def test_ema_formula() -> None:
    model = small_model()
    ema = Ema(model, EmaConfig(decay=0.7, warmup=True))
    wanted = {name: parameter.detach().double().numpy().copy() for name, parameter in model.named_parameters()}
    for name, parameter in ema.model.named_parameters():
        np.testing.assert_array_equal(parameter.detach(), wanted[name])
    for update in range(1, 30):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(randn(*parameter.shape, seed=update))
        ema.update(update)
        decay = min(0.7, (1 + update) / (10 + update))
        for name, parameter in model.named_parameters():
            wanted[name] += (1 - decay) * (parameter.detach().double().numpy() - wanted[name])
    for name, parameter in ema.model.named_parameters():
        np.testing.assert_allclose(parameter, wanted[name], rtol=1e-4, atol=1e-5)
        assert not parameter.requires_grad


def test_ema_decay_warms_up_only_if_asked() -> None:
    model = small_model()
    assert Ema(model, EmaConfig(decay=0.999, warmup=False)).decay_at(1) == 0.999
    warm = Ema(model, EmaConfig(decay=0.5))
    assert [warm.decay_at(n) for n in (1, 8, 10**6)] == pytest.approx([2 / 11, 0.5, 0.5])


def step(model: torch.nn.Module, optimizer: Optimizer, seed: int) -> None:
    for number, parameter in enumerate(model.parameters()):
        parameter.grad = randn(*parameter.shape, seed=100 * seed + number)
    optimizer.step(1e-4)


def test_optimizer_state_round_trip_is_bit_equal() -> None:
    config = OptimizerConfig(weight_decay=0.1)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    optimizer = Optimizer(model, config)
    assert optimizer.tensors() == {}
    step(model, optimizer, 1)
    saved = {name: tensor.clone() for name, tensor in optimizer.tensors().items()}
    assert len(saved) == 3 * 4
    assert saved["step.0.weight"].item() == 1
    twin = copy.deepcopy(model)
    other = Optimizer(twin, config)
    other.restore(saved)
    for seed in (2, 3):
        step(model, optimizer, seed)
        step(twin, other, seed)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    assert saved["step.0.weight"].item() == 1  # restoring copies: what was saved is not stepped on
    other.restore({})
    assert other.tensors() == {}


@pytest.mark.parametrize("change", ["missing", "extra"])
def test_optimizer_state_of_another_model_is_refused(change: str) -> None:
    model = torch.nn.Linear(3, 4)
    optimizer = Optimizer(model, OptimizerConfig())
    step(model, optimizer, 1)
    state: dict[str, Any] = optimizer.tensors()
    if change == "missing":
        del state["exp_avg.bias"]
    else:
        state["exp_avg.other"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match=r"exp_avg\.(bias|other)"):
        optimizer.restore(state)


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("micro", [None, 1, 2, 3])
@pytest.mark.parametrize("start", [0, 72])
def test_plan_covers_every_position_once(world: int, micro: int | None, start: int) -> None:
    share = 24 // world
    seen: list[list[int]] = []
    for rank in range(world):
        plan = plan_batches(24, micro, World(rank, world))
        assert plan.micro_batches * plan.micro_batch_size == share
        ranges = list(islice(plan.ranges(start), 3 * plan.micro_batches))
        assert all(len(part) == plan.micro_batch_size for part in ranges)
        seen.append(positions_of(ranges))
    for update in range(3):
        batch = positions_of(one[update * share : (update + 1) * share] for one in seen)
        assert batch == list(range(start + 24 * update, start + 24 * (update + 1)))


def test_a_batch_that_cannot_be_cut_evenly_is_refused_with_what_is_legal() -> None:
    with pytest.raises(ConfigError, match=r"cannot be shared by 5 processes; needed: .* 1, 2, 3, 4, 6, 12$"):
        plan_batches(12, None, World(0, 5))
    with pytest.raises(ConfigError, match=r"does not divide the 6 pictures .*; needed: one of 1, 2, 3, 6$"):
        plan_batches(12, 4, World(0, 2))


def test_draws_do_not_depend_on_what_else_is_in_the_batch() -> None:
    whole = noising().draw(encoder().encode(batch_at(range(20, 30))))
    rows = [7, 0, 3]
    some = noising().draw(encoder().encode(batch_at([20 + row for row in rows])))
    assert torch.equal(some.x_0, whole.x_0[rows])
    assert torch.equal(some.draws.normal("noise", (3, 8, 8)), whole.draws.normal("noise", (3, 8, 8))[rows])
    assert torch.equal(some.t, whole.t[rows])
    assert torch.equal(some.inputs.keep_semantic, whole.inputs.keep_semantic[rows])
    assert torch.equal(some.inputs.keep_control, whole.inputs.keep_control[rows])
    assert some.inputs.padding_noise is not None and whole.inputs.padding_noise is not None
    assert torch.equal(some.inputs.padding_noise, whole.inputs.padding_noise[rows])


def test_draws_are_those_of_seed_and_position() -> None:
    batch = encoder().encode(batch_at(range(6)))
    first, other = noising(5).draw(batch), noising(6).draw(batch)
    assert torch.equal(first.x_0, other.x_0)
    assert not torch.equal(first.draws.normal("noise", (3, 8, 8)), other.draws.normal("noise", (3, 8, 8)))
    assert not torch.equal(first.t, other.t)
    assert len({float(t) for t in first.t}) == 6
    assert not torch.equal(first.draws.normal("noise", (3, 8, 8))[0], first.draws.normal("noise", (3, 8, 8))[1])
    assert torch.equal(first.x_0, STATS.normalise(batch.posterior.mean))


def test_a_posterior_is_sampled_anew_for_every_position() -> None:
    batch = encoder().encode(batch_at(range(400)))
    mean, std = torch.full_like(batch.posterior.mean, 0.3), torch.full_like(batch.posterior.mean, 0.2)
    x_0 = noising().draw(replace(batch, posterior=Posterior(mean, std))).x_0
    raw = STATS.denormalise(x_0)
    assert raw.mean().item() == pytest.approx(0.3, abs=0.005)
    assert raw.std().item() == pytest.approx(0.2, abs=0.005)
    noise = noising().draw(batch).draws.normal("noise", batch.posterior.mean.shape[1:])
    assert abs(float(torch.corrcoef(torch.stack([raw.flatten(), noise.flatten()]))[0, 1])) < 0.02


def test_fingerprints_name_every_difference() -> None:
    machine = Machine(CPU, torch.float32)
    first = fingerprint(machine, World(), 8, "data", {"a": 1})
    assert compare(first, fingerprint(machine, World(), 8, "data", {"a": 1})) == "yes"
    second = fingerprint(Machine(CPU, torch.bfloat16), World(0, 2), 4, "data", {"a": 2})
    said = compare(first, second)
    assert said.startswith("no (")
    for part in ("dtype float32→bfloat16", "micro_batch_size 8→4", "processes 1→2", "recipe "):
        assert part in said
    assert "threads" not in said
    assert compare({**first, "threads": "99"}, first) == f"no (threads 99→{torch.get_num_threads()})"
    assert "new ?→x" in compare(first, {**first, "new": "x"})


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValidationError, match="less than one batch"):
        settings(samples=7)
    with pytest.raises(ValidationError):
        settings(keep_checkpoints=1)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_the_first_signal_asks_and_the_second_ends(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert stop.name is None
        signal.raise_signal(number)
        assert stop.name == name
        assert ended == []
        signal.raise_signal(number)
        assert ended == [130 if name == "SIGINT" else 143]
    assert signal.getsignal(number) == before


def test_a_second_interrupt_in_a_process_that_lives_on_is_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    with process_lives_on(), StopRequest() as stop:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert stop.name == "SIGINT" and ended == []
        signal.raise_signal(signal.SIGTERM)  # who ends a notebook's process means it
        assert ended == [143]


def test_outside_the_main_thread_no_signal_is_watched() -> None:
    seen: list[str | None] = []

    def work() -> None:
        with StopRequest() as stop:
            seen.append(stop.name)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(timeout=60)
    assert seen == [None]
