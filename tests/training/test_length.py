"""A training that becomes longer: its learning rate is that of a training planned so from the start."""

from __future__ import annotations

import pytest

from open_ldm.core.errors import ConfigError
from open_ldm.training.length import length_change, require_length
from open_ldm.training.settings import OptimizerConfig, TrainingConfig


def training(samples: int, decay: str) -> TrainingConfig:
    optimizer = OptimizerConfig.model_validate({"learning_rate": 0.1, "warmup_samples": 20, "decay": decay})
    return TrainingConfig(samples=samples, batch_size=10, optimizer=optimizer, checkpoint_every_samples=10)


@pytest.mark.parametrize(("decay", "old", "new"), [("constant", 0.1, 0.1), ("linear", 0.0, 0.05), ("cosine", 0.0, 0.05)])
def test_the_rate_is_that_of_the_longer_course(decay: str, old: float, new: float) -> None:
    change = length_change(training(120, decay), training(220, decay), samples_seen=120)
    assert change is not None and (change.samples_before, change.samples) == (120, 220)
    assert change.learning_rate_before == pytest.approx(old, abs=1e-12)
    assert change.learning_rate == pytest.approx(new)
    rate = "stays 0.1" if decay == "constant" else "here is 0.05 (was 0)"
    assert change.sentence() == f"training goes on to 220 samples (120 before); the learning rate {rate}"


def test_equal_lengths_change_nothing() -> None:
    assert length_change(training(120, "cosine"), training(120, "linear"), 60) is None


def test_shorter_than_what_was_trained_is_refused() -> None:
    require_length(training(95, "cosine"), 100, "runs/a")  # the last batch is a whole one
    with pytest.raises(ConfigError, match=r"training\.samples=90, and run folder runs/a has seen 100 samples") as caught:
        require_length(training(90, "constant"), 100, "runs/a")
    assert caught.value.needed == "training.samples=100 or more to go on with it"
