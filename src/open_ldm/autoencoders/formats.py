"""Whether an autoencoder may compute in bf16: pictures are reconstructed in both formats, and compared with what they were."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from open_ldm.autoencoders.base import Autoencoder
from open_ldm.autoencoders.reconstruct import psnr_db
from open_ldm.core.pictures import to_pixels

MOST_LOST_DB = 0.1
"""By how much the mean PSNR of reconstructions may be lower in bf16 than in float32."""

PICTURES = 200
"""On how many pictures that is judged, at most."""


@dataclass(frozen=True)
class Compared:
    """Reconstructions of the same pictures in float32 and in bf16.

    Attributes:
        pictures: How many.
        float32_db: Mean PSNR in float32, in dB.
        bf16_db: The same in bf16; NaN where something was no finite number.
        times_as_fast: Seconds of float32 over those of bf16, without the first batch where there are more.
    """

    pictures: int
    float32_db: float
    bf16_db: float
    times_as_fast: float

    @property
    def harmless(self) -> bool:
        """Whether bf16 loses at most `MOST_LOST_DB`."""
        return self.float32_db - self.bf16_db <= MOST_LOST_DB  # False for NaN

    def sentence(self) -> str:
        """What was found, in words."""
        if not math.isfinite(self.bf16_db):
            return f"bf16 overflows on some of {self.pictures} pictures"
        return (
            f"{self.pictures} pictures come back at {self.bf16_db:.2f} dB in bf16, {self.float32_db:.2f} dB in float32"
            f" (it may lose {MOST_LOST_DB} dB), {self.times_as_fast:.1f} times as fast"
        )


@torch.no_grad()
def compare_formats(float32: Autoencoder, bf16: Autoencoder, batches: Iterable[Tensor]) -> Compared:
    """Encode and decode pictures by the same autoencoder in two formats.

    Args:
        float32: The autoencoder in float32.
        bf16: The same in bf16, also where it decodes.
        batches: Images [B, N, H, W] in [-1, 1] on its device, one picture or more in all.

    Returns:
        How the formats compare.
    """
    sides = (float32, bf16)
    found: tuple[list[Tensor], list[Tensor]] = ([], [])
    seconds: list[tuple[float, float]] = []
    for images in batches:
        given = to_pixels(images).cpu()
        took = [0.0, 0.0]
        for number, side in enumerate(sides):
            started = time.perf_counter()
            images_found = side.decode(side.encode(images).mean).cpu()  # the copy waits for the device
            took[number] = time.perf_counter() - started
            finite = images_found.isfinite().flatten(1).all(dim=1)
            found[number].append(torch.where(finite, psnr_db(to_pixels(images_found.nan_to_num()), given), math.nan))
        seconds.append((took[0], took[1]))
    timed = seconds[1:] or seconds  # the first batch warms up
    exact, rounded = (torch.cat(side) for side in found)
    ratio = sum(each[0] for each in timed) / sum(each[1] for each in timed)
    return Compared(len(exact), float(exact.mean()), float(rounded.mean()), ratio)
