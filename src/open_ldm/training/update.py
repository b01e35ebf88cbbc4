"""What became of an update, at once or when the device has finished it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Update:
    """What one update reports.

    Attributes:
        loss: Mean over the global batch.
        grad_norm: 2-norm of the gradient before clipping.
        learning_rate: Of this update.
        applied: False where loss or gradient was not finite, so that no weight was changed.
        rescaled: Not applied because an fp16 gradient overflowed, which a smaller loss scale prevents.
        samples_seen: By the model, with this update.
    """

    loss: float
    grad_norm: float
    learning_rate: float
    applied: bool
    rescaled: bool = False
    samples_seen: int = 0


class BegunUpdate:
    """An update that the device may not have finished: its loss and norm are on their way to the host."""

    def __init__(self, loss: Tensor, norm: Tensor, rate: float, samples_seen: int) -> None:
        found = torch.stack((loss, norm.to(loss.dtype)))
        self.rate, self.samples_seen, self._event = rate, samples_seen, None
        if found.device.type == "cuda":
            self._found = torch.empty(2, dtype=found.dtype, pin_memory=True)
            self._found.copy_(found, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()  # to wait for this alone, and not for what is begun after it
        else:
            self._found = found

    def numbers(self) -> tuple[float, float]:
        """Wait for loss and norm."""
        if self._event is not None:
            self._event.synchronize()
        loss, norm = self._found.tolist()
        return loss, norm
