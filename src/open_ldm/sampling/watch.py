"""Whether pictures stay finite while they are sampled."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from open_ldm.core.errors import NonFiniteError
from open_ldm.process.prediction import Denoised
from open_ldm.sampling.solvers import Denoise


class Watch:
    """Finds the pictures of a batch that stop being finite, and when, without waiting for the device at every step."""

    def __init__(self, picture_seeds: Sequence[int], steps: int) -> None:
        self.seeds, self.steps = picture_seeds, steps
        self._bad: Tensor | None = None
        self._first: Tensor | None = None

    def denoise(self, denoise: Denoise) -> Denoise:
        """Look at every estimate, before bounds could hide an infinity."""

        def watched(x_t: Tensor, t: float) -> Denoised:
            """Denoise [B, C, H, W], and note whose estimate is not finite."""
            denoised = denoise(x_t, t)
            bad = ~torch.isfinite(denoised.x_0).flatten(1).all(dim=1)
            self._bad = bad if self._bad is None else self._bad | bad
            return denoised

        return watched

    def step(self, number: int) -> None:
        """Note which pictures were no longer finite in step `number`, from 0."""
        if self._bad is not None:
            first = torch.full_like(self._bad, -1, dtype=torch.long) if self._first is None else self._first
            self._first = torch.where(self._bad & (first < 0), number, first)

    def finite(self, images: Tensor) -> Tensor:
        """Return decoded images that are finite, as were all estimates on the way. Raises NonFiniteError for others."""
        first = torch.full((len(images),), -1) if self._first is None else self._first.cpu()
        decoded = torch.isfinite(images).flatten(1).all(dim=1)
        bad = ((first >= 0) | ~decoded).nonzero().flatten().tolist()
        if not bad:
            return images
        seed, step = self.seeds[bad[0]], int(first[bad[0]])
        when = f"from step {step + 1} of {self.steps} on" if step >= 0 else "once it was decoded"
        others = f", and {len(bad) - 1} more of {len(images)}" if len(bad) > 1 else ""
        raise NonFiniteError(
            f"the picture of seed {seed} holds NaN or infinity {when}{others}",
            fix="lower the guidance scales, or take an older checkpoint whose pictures are good",
        )
