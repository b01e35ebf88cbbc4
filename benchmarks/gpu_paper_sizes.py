"""How large the cells of benchmarks/gpu_paper.py are, on a GPU and as a toy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Sizes:
    """How large everything is.

    Attributes:
        network: Changes to the recipes. Nothing is compiled: every training would pay for that out of a minute.
        batch: Pictures per update.
        pace_updates: Of the short training.
        reader_pictures: Shown to the classifier that reads the class.
        seeds: Of content change and control effect, each sampled at three sizes.
        pictures: Samples of which FD is measured.
        real_pictures: That they are compared with, at most.
        sampling: Changes to how samples are made.
        arm_seconds: Of one arm's training.
        run_seconds: Of the class-conditional training.
        arm_evaluation: Seconds set aside for evaluating an arm.
        run_evaluation: Seconds set aside for evaluating the class-conditional run.
        saving: Seconds before the limit at which whatever is under way saves and stops.
    """

    network: tuple[str, ...]
    batch: int
    pace_updates: int
    reader_pictures: int
    seeds: int
    pictures: int
    real_pictures: int
    sampling: Mapping[str, Any]
    arm_seconds: float
    run_seconds: float
    arm_evaluation: float
    run_evaluation: float
    saving: float


FULL = Sizes(
    ("denoiser={kind: dit, size: S, patch: 2}", "training.optimizer.learning_rate=1e-3", "training.compile=off"),
    batch=256,
    pace_updates=200,
    reader_pictures=40_000,
    seeds=512,
    pictures=5000,
    real_pictures=20_000,
    sampling={"batch_size": 256},
    arm_seconds=90,
    run_seconds=300,
    arm_evaluation=25,
    run_evaluation=60,
    saving=10,
)
TOY = Sizes(
    ("denoiser={kind: dit, size: XS, patch: 4, depth: 2, width: 64, heads: 2}", "data.workers=0", "training.compile=off"),
    batch=32,
    pace_updates=10,
    reader_pictures=640,
    seeds=16,
    pictures=96,
    real_pictures=96,
    sampling={"batch_size": 48, "steps": 4},
    arm_seconds=4,
    run_seconds=4,
    arm_evaluation=10,
    run_evaluation=10,
    saving=10,
)
