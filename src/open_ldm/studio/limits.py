"""What one request may ask for: sizes, counts and times."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of the studio.

    Attributes:
        pictures: Of one request.
        steps: Of the solver.
        sweep: Values of a control in one row.
        text: Characters of a prompt or of a control's value.
        waiting: Jobs that wait for the device; a further one is refused.
        seconds: That one job may take.
        body_bytes: Of one request, such as one with a start picture.
        start_bytes: Of a start picture's file.
        loaded: Models that are kept in memory.
    """

    pictures: int = 16
    steps: int = 250
    sweep: int = 8
    text: int = 500
    waiting: int = 512
    seconds: float = 300.0
    body_bytes: int = 12 << 20
    start_bytes: int = 8 << 20
    loaded: int = 4


LIMITS = Limits()
