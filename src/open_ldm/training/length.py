"""A run whose length changes on the way: it goes on at its position, on the course that the new length gives."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from open_ldm.core.errors import ConfigError
from open_ldm.training.learning_rate import learning_rate_at
from open_ldm.training.settings import TrainingConfig


@dataclass(frozen=True)
class LengthChange:
    """What another `training.samples` changes in a run that goes on.

    Attributes:
        samples_before: Length of the training so far, in pictures.
        samples: Length from now on.
        learning_rate_before: Of the course so far, at the run's position.
        learning_rate: Of the new course, there.
    """

    samples_before: int
    samples: int
    learning_rate_before: float
    learning_rate: float

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)

    def sentence(self) -> str:
        """Say it in one line."""
        rates = (
            f"the learning rate stays {self.learning_rate:.3g}"
            if self.learning_rate == self.learning_rate_before
            else f"the learning rate here is {self.learning_rate:.3g} (was {self.learning_rate_before:.3g})"
        )
        return f"training goes on to {self.samples:,} samples ({self.samples_before:,} before); {rates}"


def length_change(before: TrainingConfig, now: TrainingConfig, samples_seen: int) -> LengthChange | None:
    """Compare the length of a run's training as it was saved with the one given now; None where they are equal.

    Warm-up ends where it did. A decay is computed for the new length, so that the rate jumps to where that course stands: a
    cosine that had reached 0 would train nothing otherwise.

    Args:
        before: As the checkpoint has it.
        now: As given.
        samples_seen: Where the run stands.
    """
    if before.samples == now.samples:
        return None
    old, new = (learning_rate_at(now.optimizer, samples_seen, each.samples) for each in (before, now))
    return LengthChange(before.samples, now.samples, old, new)


def require_length(training: TrainingConfig, samples_seen: int, folder: object) -> None:
    """Refuse a training that is shorter than what has been trained already.

    Args:
        training: As given.
        samples_seen: By the newest checkpoint; a whole last batch may exceed the length.
        folder: The run folder, for the error.

    Raises:
        ConfigError: A run of that length would have ended before.
    """
    if samples_seen >= training.samples + training.batch_size:
        raise ConfigError(
            f"training.samples={training.samples}, and run folder {folder} has seen {samples_seen:,} samples",
            needed=f"training.samples={samples_seen} or more to go on with it",
            fix="choose another --out to train a shorter one",
        )
