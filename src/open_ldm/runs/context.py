"""Where a run happens, and how it ended."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_ldm.core.device import Machine
from open_ldm.core.distributed import World
from open_ldm.core.signals import StopRequest
from open_ldm.run_folder.folder import RunFolder


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended.

    Attributes:
        code: Exit code: 0 done, 75 stopped by a signal and saved.
        run: The run folder.
        samples_seen: By the model.
        seconds: Of this process.
        loss: Last reported mean loss; None before the first report.
    """

    code: int
    run: Path
    samples_seen: int
    seconds: float
    loss: float | None

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "code": self.code,
            "run": str(self.run),
            "samples_seen": self.samples_seen,
            "loss": self.loss,
            "seconds": round(self.seconds, 1),
        }


@dataclass(frozen=True)
class RunContext:
    """Where a run writes, on what it computes, with which processes, and whether it has been asked to stop."""

    folder: RunFolder
    machine: Machine
    world: World
    stop: StopRequest

    def ended(self, code: int, samples_seen: int, started: float, loss: float | None) -> TrainingResult:
        """Say how the run ended; `started` by time.perf_counter()."""
        return TrainingResult(code, self.folder.path, samples_seen, time.perf_counter() - started, loss)
