"""fp16 with loss scaling: gradients near those of float64, skipped updates that keep their position, bit-equal resume."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from open_ldm.checkpoints.checkpoint import CheckpointFolder
from open_ldm.checkpoints.manifest_check import COUNTERS
from open_ldm.core import device
from open_ldm.core.device import Machine, choose_device
from open_ldm.training import loss_scale
from open_ldm.training.fingerprint import as_begun
from open_ldm.training.loss_scale import FIRST, GROWS_AFTER, MOST
from open_ldm.training.state import Counters
from open_ldm.training.trainer import DiffusionTrainer
from tests.helpers import DENOISERS, KNOWN
from tests.training.small_run import CPU, all_tensors, copy_of, micro_batches, run_updates, same_bits, small_trainer

MOST_ERROR = {torch.float16: 4e-3, torch.bfloat16: 3e-2}
"""Of the gradient, against float64: rounding to 11 and to 8 bits, in networks of two or three blocks."""


def half(name: str = "dit") -> DiffusionTrainer:
    return small_trainer(denoiser=DENOISERS[name], dtype=torch.float16)


def gradient_of(trainer: DiffusionTrainer) -> Tensor:
    """The gradient of an update, as the optimiser gets it."""
    taken: list[Tensor] = []

    def take(*_: Any) -> None:
        taken.extend(each.clone().double().flatten() for each in trainer._gradients())

    trainer._apply = take  # type: ignore[method-assign]
    batch = micro_batches(trainer)
    while not trainer.update(batch).applied:  # the first scale may be too large
        assert trainer.state.counters.loss_scale > 1
    return torch.cat(taken)


def exact_gradient(name: str, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """The same in float64, which every cast to float32 is turned into."""
    trainer = small_trainer(denoiser=DENOISERS[name], dtype=torch.float64)
    batch = trainer.noising.draw(micro_batches(trainer)[0])
    with monkeypatch.context() as patch:
        patch.setattr(Tensor, "float", Tensor.double)
        trainer.state.model.double()
        inputs = batch.inputs.map(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)
        batch = replace(batch, x_0=batch.x_0.double(), t=batch.t.double(), inputs=inputs)
        trainer.objective(batch).sum().div(trainer.config.batch_size).backward()
    gradient = torch.cat([each.flatten() for each in trainer._gradients()])
    assert gradient.dtype == torch.float64
    return gradient


@pytest.mark.parametrize("name", ["dit", "mmdit", "pixart", "mdtv2", "unet"])
def test_gradients_are_near_those_of_float64(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = exact_gradient(name, monkeypatch)
    for dtype, most in MOST_ERROR.items():
        error = (gradient_of(small_trainer(denoiser=DENOISERS[name], dtype=dtype)) - exact).norm() / exact.norm()
        assert error < most, dtype


def test_an_overflow_halves_the_scale_and_keeps_its_position() -> None:
    trainer, plain = half(), half()
    trainer.state.counters.loss_scale = 2**40  # far beyond fp16, so that the first updates overflow
    before = copy_of(all_tensors(trainer))
    (update,) = run_updates(trainer, 1)
    assert (update.applied, update.rescaled) == (False, True) and same_bits(all_tensors(trainer), before)
    counters = trainer.state.counters
    assert (counters.loss_scale, counters.samples_seen, counters.updates) == (2**39, 8, 0)
    assert counters.skipped == counters.skipped_in_row == 0
    while not run_updates(trainer, 1)[0].applied:
        pass
    seen = trainer.state.counters.samples_seen
    assert seen > 16 and counters.updates == 1
    plain.state.counters.samples_seen = seen - 8
    run_updates(plain, 1)  # of the same pictures, so the scale is no part of the numbers
    assert same_bits(copy_of(dict(plain.state.model.named_parameters())), dict(trainer.state.model.named_parameters()))


def test_a_loss_that_is_not_finite_is_counted_whatever_the_scale() -> None:
    trainer = half()
    (batch,) = micro_batches(trainer)
    batch.posterior.mean[3] = float("nan")
    update = trainer.update([batch])
    assert not update.applied and not update.rescaled
    assert (trainer.state.counters.skipped, trainer.state.counters.loss_scale) == (1, 0)


def test_the_scale_grows_and_has_ends() -> None:
    counters = Counters()
    for _ in range(GROWS_AFTER):
        loss_scale.applied(counters)
    assert (counters.loss_scale, counters.updates_at_scale) == (2 * FIRST, 0)
    counters.loss_scale, counters.updates_at_scale = MOST, GROWS_AFTER - 1
    loss_scale.applied(counters)
    assert counters.loss_scale == MOST
    counters.loss_scale, counters.updates_at_scale = 2, 7
    assert loss_scale.overflowed(counters) and (counters.loss_scale, counters.updates_at_scale) == (1, 0)
    assert not loss_scale.overflowed(counters)


@pytest.mark.parametrize("name", ["dit", "unet"])
def test_resumed_training_in_fp16_is_bit_equal(name: str, tmp_path: Path) -> None:
    through = half(name)
    through.state.counters.loss_scale = 2**19  # so that updates are skipped first
    wanted = run_updates(through, 6)
    interrupted, store = half(name), CheckpointFolder(tmp_path)
    interrupted.state.counters.loss_scale = 2**19
    before = run_updates(interrupted, 3)
    counters = interrupted.state.counters_to_json()
    store.save(24, interrupted.state.tensors(), {"recipe": {}, **KNOWN, "counters": counters})
    checkpoint, _ = store.newest()
    assert checkpoint is not None and set(counters) == set(COUNTERS)
    resumed = half(name)
    resumed.restore(checkpoint)
    found = before + run_updates(resumed, 3)
    assert str(found) == str(wanted)  # NaN among it
    assert any(update.rescaled for update in before) and any(update.applied for update in found)
    assert same_bits(all_tensors(resumed), all_tensors(through))
    assert resumed.state.counters == through.state.counters


def test_a_checkpoint_without_a_scale_is_read_and_written_as_before() -> None:
    trainer = small_trainer()
    assert not {"loss_scale", "updates_at_scale"} & set(trainer.state.counters_to_json())
    assert Counters(**trainer.state.counters_to_json()) == Counters()


def test_auto_takes_fp16_for_training_alone_and_where_bf16_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device.torch.cuda, "is_available", lambda: True)
    has = {"bf16": False, "capability": (7, 5)}
    monkeypatch.setattr(device.torch.cuda, "is_bf16_supported", lambda including_emulation: has["bf16"])
    monkeypatch.setattr(device.torch.cuda, "get_device_capability", lambda device: has["capability"])

    def dtype(**arguments: Any) -> torch.dtype:
        return choose_device("cuda", **arguments).compute_dtype

    assert (dtype(scaled=True), dtype()) == (torch.float16, torch.float32)
    has["capability"] = (6, 1)
    assert dtype(scaled=True) == torch.float32
    has["bf16"] = True
    assert dtype(scaled=True) == torch.bfloat16
    here = choose_device("cpu", "fp16")
    assert here == Machine(CPU, torch.float16) and here.sentence.endswith("threads), fp16")


def test_a_run_begun_in_float32_stays_in_it() -> None:
    card, begun = Machine(torch.device("cuda"), torch.float16), {"dtype": "float32"}
    assert as_begun(card, "auto", begun).compute_dtype == torch.float32
    assert as_begun(card, "auto", {}) is card and as_begun(card, "fp16", begun) is card
