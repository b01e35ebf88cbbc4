from __future__ import annotations

import pytest
import torch
from torch import Tensor

from open_ldm.conditioning import ConditioningConfig, ConditionInputs
from open_ldm.conditioning.inputs import Conditions
from open_ldm.core import seeds
from open_ldm.core.errors import ConfigError, DataError, NonFiniteError
from open_ldm.denoisers.base import Prediction
from open_ldm.encoded.batch import EncodedBatch
from open_ldm.evaluation.bootstrap import BootstrapConfig
from open_ldm.evaluation.held_out_loss import HeldOutLoss, held_out_loss
from open_ldm.model.diffusion import DiffusionModel
from open_ldm.model.spec import ProcessConfig
from open_ldm.process.schedules import LinearSchedule
from tests.evaluation.sets import Process
from tests.helpers import SMALL_WORDS, batch_at, small_model
from tests.training.small_run import CONDITIONING, STATS, encoder

TIMES = (0.1, 0.5, 0.9)
QUICK = BootstrapConfig(replicates=20)


def encoded(*positions: int) -> EncodedBatch:
    return encoder().encode(batch_at(positions))


def model(process: ProcessConfig | None = None, conditioning: ConditioningConfig = CONDITIONING) -> DiffusionModel:
    return small_model(conditioning=conditioning, process=process)


def loss_of(network: DiffusionModel, *batches: EncodedBatch, **options: object) -> HeldOutLoss:
    settings: dict[str, object] = {"times": TIMES, "bootstrap": QUICK, **options}
    return held_out_loss(network, STATS, CONDITIONING, batches, **settings)  # type: ignore[arg-type]


def test_it_is_the_error_of_the_prediction_at_each_time() -> None:
    network, batch = model(), encoded(3, 5)
    found = loss_of(network, batch, seed=7)
    x_0 = STATS.normalise(batch.posterior.mean)
    eps = seeds.normal(7, "held-out noise", [3, 5], x_0.shape[1:])
    everything = torch.ones(2, dtype=torch.bool)
    assert batch.text is not None
    padding = seeds.normal(7, "padding", [3, 5], (SMALL_WORDS.length, SMALL_WORDS.width))
    inputs = ConditionInputs(everything, everything, text=batch.text, controls=batch.controls, padding_noise=padding)
    for time, level in zip(TIMES, found.levels, strict=True):
        t = torch.full((2,), time)
        with torch.no_grad():
            velocity = network.predict((1 - time) * x_0 + time * eps, t, inputs).mean
        assert level.value == pytest.approx(float((velocity - (eps - x_0)).square().mean()), rel=1e-4)
    assert found.mean.value == pytest.approx(sum(level.value for level in found.levels) / 3)
    assert (found.kind, found.times, found.count) == ("velocity", TIMES, 2)


def test_the_same_pictures_times_and_noise_every_time() -> None:
    network = model()
    one = loss_of(network, encoded(1, 2, 3, 4))
    assert loss_of(network, encoded(1, 2, 3, 4)) == one
    parts = loss_of(network, encoded(4, 2), encoded(3, 1))
    assert [level.value for level in parts.levels] == pytest.approx([level.value for level in one.levels], rel=1e-5)
    first = Process()
    loss_of(network, encoded(4, 2), world=first)
    both = loss_of(network, encoded(3, 1), world=Process(first.values))
    assert both == parts
    assert loss_of(network, encoded(1, 2, 3, 4), seed=1) != one


def test_nothing_is_dropped() -> None:
    """Whatever the drop rates of training are, the model is told everything."""
    network, batch = model(), encoded(1, 2)
    never = CONDITIONING.model_copy(update={"semantic_drop": 0.0, "control_drop": 0.0})
    always = CONDITIONING.model_copy(update={"semantic_drop": 1.0, "control_drop": 1.0})
    found = [held_out_loss(network, STATS, told, [batch], times=TIMES, bootstrap=QUICK) for told in (never, always)]
    assert found[0] == found[1]


def test_discrete_schedules_are_asked_at_their_steps() -> None:
    process = ProcessConfig(schedule=LinearSchedule(steps=7), prediction="eps")
    found = loss_of(model(process), encoded(1, 2))
    assert found.times == (1 / 7, 4 / 7, 1.0)
    assert found.kind == "eps"


def test_errors_are_told_as_any_kind_of_prediction() -> None:
    """One network that answers in two kinds: where it says the same of x_0, it has one loss, told as either."""
    flow, batch = model(), encoded(1, 2, 3)
    clean = model(ProcessConfig(prediction="x_0"))

    class AnswersAsX0(torch.nn.Module):
        def forward(self, x_t: Tensor, time: Tensor, conditions: Conditions) -> Prediction:
            t = time.reshape(-1, 1, 1, 1) / 1000
            return Prediction(x_t - t * flow.denoiser(x_t, time, conditions).mean)

    clean.denoiser, clean.conditioning = AnswersAsX0(), flow.conditioning  # type: ignore[assignment]
    own, told = loss_of(flow, batch), loss_of(clean, batch, kind="velocity")
    assert told.kind == "velocity"
    assert [level.value for level in told.levels] == pytest.approx([level.value for level in own.levels], rel=1e-3)
    assert loss_of(flow, batch, kind="velocity") == own
    as_x_0 = loss_of(flow, batch, kind="x_0")
    assert as_x_0.kind == "x_0"
    expected = [time**2 * level.value for time, level in zip(TIMES, own.levels, strict=True)]
    assert [level.value for level in as_x_0.levels] == pytest.approx(expected, rel=1e-5)


def test_what_a_prediction_says_nothing_of_is_no_fault_of_the_weights() -> None:
    short = LinearSchedule(steps=10, zero_terminal_snr=True)
    network = model(ProcessConfig(schedule=short, prediction="eps"))
    assert loss_of(network, encoded(1, 2), times=(0.95,)).kind == "eps"
    with pytest.raises(ConfigError, match="prediction of eps says nothing of v at t = 1; needed: prediction=eps"):
        loss_of(network, encoded(1, 2), times=(0.5, 0.95), kind="v")


def test_a_better_model_has_a_lower_loss() -> None:
    network, batch = model(), encoded(*range(8))
    before = loss_of(network, batch)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    x_0 = STATS.normalise(batch.posterior.mean)
    everything = torch.ones(8, dtype=torch.bool)
    padding = seeds.normal(0, "padding", range(8), (SMALL_WORDS.length, SMALL_WORDS.width))
    inputs = ConditionInputs(everything, everything, text=batch.text, controls=batch.controls, padding_noise=padding)
    for step in range(20):
        eps = seeds.normal(1, "x", range(step * 8, step * 8 + 8), x_0.shape[1:])
        t = seeds.uniform(1, "t", range(step * 8, step * 8 + 8))
        x_t = network.schedule.noised(x_0, eps, t)
        loss = (network.predict(x_t, t, inputs).mean - (eps - x_0)).square().mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    assert loss_of(network, batch).mean.value < before.mean.value


def test_no_pictures_and_broken_weights_are_refused() -> None:
    with pytest.raises(DataError, match="no pictures for the held-out loss"):
        loss_of(model())
    network = model()
    with torch.no_grad():
        next(network.denoiser.parameters()).fill_(torch.nan)
    with pytest.raises(NonFiniteError, match=r"held-out loss at t = 0\.1 is not finite"):
        loss_of(network, encoded(1, 2))
