from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from open_ldm.conditioning import ConditioningConfig
from open_ldm.conditioning.inputs import Conditions
from open_ldm.core.seeds import Draws
from open_ldm.denoisers.base import Denoiser, Prediction, TrainingPass
from open_ldm.model.diffusion import DiffusionModel
from open_ldm.model.noising import ObjectiveInputs
from open_ldm.model.objective import Objective, ObjectiveConfig
from open_ldm.model.spec import ProcessConfig
from open_ldm.process.learned_variance import variational_bound_bits
from open_ldm.process.prediction import Denoised, PredictionKind, target
from open_ldm.process.schedules import (
    CosineSchedule,
    LinearSchedule,
    RectifiedFlowSchedule,
    ScaledLinearSchedule,
    ScheduleConfig,
)
from open_ldm.process.weighting import MinSnrWeighting, weight
from tests.helpers import inputs_for, randn, small_model

KINDS: list[PredictionKind] = ["eps", "x_0", "v", "velocity"]
SCHEDULES: list[ScheduleConfig] = [
    LinearSchedule(),
    LinearSchedule(zero_terminal_snr=True),
    ScaledLinearSchedule(),
    CosineSchedule(),
    RectifiedFlowSchedule(),
]
BATCH = 4
X_0, EPS = randn(BATCH, 3, 8, 8, seed=1).clamp(-1, 1), randn(BATCH, 3, 8, 8, seed=2)
TIMES = torch.tensor([0.05, 0.4, 0.7, 0.95])
NOTHING = inputs_for(ConditioningConfig(), BATCH)
every_process = pytest.mark.parametrize(("kind", "schedule"), [(kind, schedule) for kind in KINDS for schedule in SCHEDULES])


class Answer(Denoiser):
    """A denoiser that says what it was told to say."""

    def __init__(self, answer: Callable[[], Prediction], passes: int = 1) -> None:
        super().__init__()
        self.answer, self.passes = answer, passes

    def forward(self, x_t: Tensor, time: Tensor, conditions: Conditions) -> Prediction:
        return self.answer()

    def training_passes(self, draws: Draws) -> list[TrainingPass]:
        return [TrainingPass(self)] * self.passes


def model_saying(
    kind: PredictionKind, schedule: ScheduleConfig, error: float = 0.0, fraction: Tensor | None = None, passes: int = 1
) -> DiffusionModel:
    """A model whose network answers the truth about X_0, EPS and TIMES, plus `error`."""
    model = small_model(process=ProcessConfig(schedule=schedule, prediction=kind))
    truth = target(kind, X_0, EPS, model.schedule.level(TIMES)) + error
    model.denoiser = Answer(lambda: Prediction(truth, fraction), passes)
    return model


class Known(Draws):
    """Draws whose noise is EPS."""

    def normal(self, purpose: str, shape: Sequence[int] = ()) -> Tensor:
        assert (purpose, tuple(shape)) == ("noise", EPS.shape[1:])
        return EPS


def losses_of(model: DiffusionModel, objective: ObjectiveConfig | None = None) -> Tensor:
    draws = Known(0, tuple(range(BATCH)), BATCH, torch.device("cpu"))
    losses: Tensor = Objective(model, objective or ObjectiveConfig())(ObjectiveInputs(X_0, TIMES, NOTHING, draws))
    return losses


@every_process
def test_a_perfect_prediction_costs_nothing_and_a_wrong_one_its_square(kind: PredictionKind, schedule: ScheduleConfig) -> None:
    assert not losses_of(model_saying(kind, schedule)).any()
    torch.testing.assert_close(losses_of(model_saying(kind, schedule, 0.5)), torch.full((BATCH,), 0.25))


@every_process
def test_denoise_gives_x_0_whatever_is_predicted(kind: PredictionKind, schedule: ScheduleConfig) -> None:
    model = model_saying(kind, schedule)
    x_t = model.schedule.noised(X_0, EPS, TIMES)
    x_0 = model.denoise(x_t, TIMES, NOTHING).x_0
    # eps divides by alpha: rounding grows where there is hardly any signal.
    torch.testing.assert_close(x_0, X_0, rtol=0, atol=2e-4 if kind == "eps" else 1e-5)


@every_process
def test_min_snr_weights_each_picture_by_its_time(kind: PredictionKind, schedule: ScheduleConfig) -> None:
    model = model_saying(kind, schedule, 1.0)
    weighting = MinSnrWeighting()
    wanted = weight(weighting, kind, model.schedule.level(TIMES))
    found = losses_of(model, ObjectiveConfig(weighting=weighting))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(found, torch.ones(BATCH), atol=1e-3)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule.kind)
def test_a_learned_variance_adds_its_bits(schedule: ScheduleConfig) -> None:
    best = losses_of(model_saying("eps", schedule, fraction=torch.full_like(X_0, -1.0)))
    assert float(best.abs().max()) < 1e-3  # the posterior's own variance: no divergence
    fraction = randn(*X_0.shape, seed=3)
    model = model_saying("eps", schedule, 0.5, fraction)
    x_t = model.schedule.noised(X_0, EPS, TIMES)
    x_0 = model.denoise(x_t, TIMES, NOTHING).x_0
    bits = variational_bound_bits(model.schedule, X_0, x_t, TIMES, Denoised(x_0, fraction))
    assert bool((bits > 0).all())
    torch.testing.assert_close(losses_of(model), 0.25 + bits)


def test_the_bits_teach_the_variance_alone() -> None:
    model = model_saying("eps", LinearSchedule(), 0.5)
    plain = (target("eps", X_0, EPS, model.schedule.level(TIMES)) + 0.5).requires_grad_()
    fraction = randn(*X_0.shape, seed=3).requires_grad_()
    model.denoiser = Answer(lambda: Prediction(plain, fraction))
    by_mean, by_fraction = torch.autograd.grad(losses_of(model).sum(), (plain, fraction))
    torch.testing.assert_close(by_mean, torch.full_like(X_0, 2 * 0.5 / X_0[0].numel()))
    assert bool((by_fraction != 0).all())


def test_training_passes_add_up() -> None:
    assert losses_of(model_saying("velocity", RectifiedFlowSchedule(), 1.0, passes=3)).tolist() == pytest.approx([3.0] * 4)
