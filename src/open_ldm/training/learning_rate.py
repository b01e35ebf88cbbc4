"""The learning rate as a function of samples seen."""

from __future__ import annotations

import math

from open_ldm.training.settings import OptimizerConfig


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
