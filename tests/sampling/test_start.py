"""Sampling from a picture: at strength 1 it is ordinary sampling, towards 0 the picture comes back, between lies both."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from open_ldm.autoencoders import LatentStats
from open_ldm.autoencoders.identity import IdentityAutoencoder
from open_ldm.conditioning import ConditioningConfig
from open_ldm.conditioning.semantic import ClassSemantic
from open_ldm.controls import Flip, OriginalSize
from open_ldm.core.errors import ConfigError
from open_ldm.model.spec import ProcessConfig
from open_ldm.process.schedules import LinearSchedule
from open_ldm.sampling.generate import Generator, SamplingConfig
from open_ldm.sampling.solvers import SOLVERS
from open_ldm.sampling.start import Start
from open_ldm.sampling.time_grid import time_grid
from tests.helpers import inputs_for, randn, small_model

CONDITIONING = ConditioningConfig(semantic=ClassSemantic(), controls=(OriginalSize(), Flip()))
STATS = LatentStats(mean=(0.1, 0.0, -0.1), std=(0.5, 0.6, 0.7))
DDPM = ProcessConfig(schedule=LinearSchedule(), prediction="eps")
SEEDS = (3, 11)
PROCESSES = pytest.mark.parametrize("process", [None, DDPM], ids=["rectified_flow", "linear"])


def generator(process: ProcessConfig | None) -> Generator:
    model = small_model(conditioning=CONDITIONING, process=process).eval()
    return Generator(model, IdentityAutoencoder(), STATS, (8, 8))


def picture() -> torch.Tensor:
    return randn(1, 3, 8, 8, seed=9).clamp(-1, 1)


def sampled(drawing: Generator, start: Start | None, **settings: Any) -> torch.Tensor:
    config = SamplingConfig(**{"solver": "euler", "steps": 4, **settings})
    return drawing.images(inputs_for(CONDITIONING, 2), SEEDS, config, start=start)


@PROCESSES
@pytest.mark.parametrize("solver", SOLVERS)
def test_at_strength_1_nothing_is_left_of_the_picture(solver: Any, process: ProcessConfig | None) -> None:
    drawing = generator(process)
    start = Start(drawing.encode(picture()), 1.0)
    assert torch.equal(sampled(drawing, start, solver=solver), sampled(drawing, None, solver=solver))


@PROCESSES
@pytest.mark.parametrize("solver", SOLVERS)
def test_towards_strength_0_the_picture_comes_back(solver: Any, process: ProcessConfig | None) -> None:
    drawing = generator(process)
    far, near = (
        (sampled(drawing, Start(drawing.encode(picture()), strength), solver=solver) - picture()).abs().mean()
        for strength in (0.5, 1e-4)
    )
    assert near < 0.03 and near < far / 4


@PROCESSES
def test_the_picture_is_noised_to_the_time_that_is_asked_for(process: ProcessConfig | None) -> None:
    schedule = generator(process).model.schedule
    x_0, eps = randn(1, 3, 8, 8, seed=1), randn(2, 3, 8, 8, seed=2)
    level = schedule.level(torch.tensor(0.4, dtype=torch.float64))
    wanted = float(level.alpha) * x_0 + float(level.sigma) * eps
    torch.testing.assert_close(Start(x_0, 0.4).noised(eps, schedule), wanted)


@PROCESSES
def test_the_way_that_is_left_begins_there(process: ProcessConfig | None) -> None:
    grid = time_grid(generator(process).model.schedule, 5)
    assert Start(torch.zeros(1), 0.7).times(grid).tolist() == pytest.approx([0.7, 0.6, 0.4, 0.2, 0.0])
    assert Start(torch.zeros(1), 0.6).times(grid).tolist() == pytest.approx([0.6, 0.4, 0.2, 0.0])
    assert Start(torch.zeros(1), 1e-3).times(grid).tolist() == pytest.approx([1e-3, 0.0])
    ends_early = torch.tensor([1.0, 0.5, 0.1], dtype=torch.float64)
    assert Start(torch.zeros(1), 0.05).times(ends_early).tolist() == pytest.approx([0.05, 0.0])


def test_steps_that_are_left_out_count_as_done_and_estimates_are_handed_on() -> None:
    drawing = generator(None)
    done: list[int] = []
    estimates: list[tuple[int, tuple[int, ...]]] = []
    drawing.images(
        inputs_for(CONDITIONING, 2),
        SEEDS,
        SamplingConfig(solver="euler", steps=4, batch_size=1),
        done.append,
        start=Start(drawing.encode(picture()), 0.5),
        on_estimate=lambda step, x_0: estimates.append((step, tuple(x_0.shape))),
    )
    assert done == [3, 4, 7, 8]
    assert estimates == [(0, (1, 3, 8, 8)), (1, (1, 3, 8, 8))] * 2


@pytest.mark.parametrize("strength", [0.0, -0.1, 1.01, float("nan")])
def test_a_strength_outside_is_refused(strength: float) -> None:
    with pytest.raises(ConfigError, match="strength"):
        Start(torch.zeros(1), strength)
