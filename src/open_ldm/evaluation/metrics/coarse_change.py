"""Coarse change: how much whole pictures change when only one control changes, with no reader. Unwanted; lower is better.

With C x a picture shrunk to the detail that all values of the control can show, and x_i,v the picture of seed i under the
value v,

    c = sum_i E_a<b |C x_i,a - C x_i,b|^2  /  sum_i E_v E_j!=i |C x_i,v - C x_j,v|^2.

0: nothing but detail changes; 1: a picture under another value has as little to do with it as the picture of another seed and
condition has.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from open_ldm.core.errors import ConfigError, DataError
from open_ldm.core.pictures import to_images
from open_ldm.evaluation.bootstrap import BootstrapConfig, Estimate, estimate, weights
from open_ldm.evaluation.metrics.content_change import FLIP, SIZE, TOUCHED, shown_size_px

_SHARE_OF_SIDE = 4
"""The detail that is compared where the control is no size: this part of each side."""
_EQUAL = 1e-12
"""Mean square below which a difference is rounding: one grey level in a picture of a million numbers is 6e-11."""


@dataclass(frozen=True)
class CoarseChange:
    """What changed in n pictures, in the mean square of pixels in [-1, 1].

    Attributes:
        changes: Of each picture between two values, averaged over all pairs of values; float64 [n].
        apart: Of each picture from those of other seeds under the same value, averaged over them and the values; float64 [n].
        pairs: 'a|b' -> the share for these two values alone.
    """

    changes: Tensor
    apart: Tensor
    pairs: Mapping[str, float]

    def estimate(self, name: str, bootstrap: BootstrapConfig) -> Estimate:
        """Return c, called `name`, with its bootstrap interval over seeds.

        The mean of `apart` is one over pairs of pictures, and a picture that is drawn twice stands in twice as many of them: a
        replicate varies it by 2 (apart_i - mean), the first term of its expansion (Hoeffding 1948).
        """
        drawn = weights(bootstrap, len(self.changes), name)
        replicates = (drawn @ self.changes) / (drawn @ (2 * self.apart - self.apart.mean()))
        value = float(self.changes.sum() / self.apart.sum())
        return estimate(name, value, replicates, bootstrap, len(self.changes), least=0.0)


def require_comparable(control: str) -> None:
    """Refuse a control that is there to change whole pictures. Raises ConfigError."""
    if control in TOUCHED and control != FLIP:
        raise ConfigError(
            f"coarse_change: {control} is there to change whole pictures",
            needed="size, flip or a column of metadata",
            fix="content_change, which can leave out what it may change",
        )


def compared_detail(control: str, values: Sequence[Sequence[float]], view_px: tuple[int, int]) -> tuple[int, int]:
    """Return (height, width) in pixels of what is compared: what the smallest size can show, else a quarter of each side.

    Args:
        control: Its option; '' for a column of metadata, however it is called.
        values: The numbers of its values; for the size height and width in pixels.
        view_px: Height and width of the pictures.

    Raises:
        ConfigError: No size is below that of the pictures.
    """
    if control != SIZE:
        return max(1, view_px[0] // _SHARE_OF_SIDE), max(1, view_px[1] // _SHARE_OF_SIDE)
    shown = [shown_size_px((max(1, round(height)), max(1, round(width))), view_px) for height, width in values]
    kept = min(height for height, _ in shown), min(width for _, width in shown)
    if kept == view_px:
        raise ConfigError("coarse_change: no size is below that of the pictures", fix="values=[16x16, 64x64]")
    return kept


def coarse(control: str, value: str, pixels: Tensor, kept_px: tuple[int, int]) -> Tensor:
    """Shrink pictures to what is compared; under `flip=1` their mirror images.

    Args:
        control: Its option; '' for a column of metadata.
        value: The value under which they were made.
        pixels: uint8 [n, C, H, W].
        kept_px: (height, width), as `compared_detail` gives it.

    Returns:
        float32 [n, C height width], about in [-1, 1].
    """
    upright = pixels.flip(-1) if control == FLIP and value == "1" else pixels
    return F.interpolate(to_images(upright), size=kept_px, mode="bicubic", align_corners=False, antialias=True).flatten(1)


def coarse_change(seen: Mapping[str, Tensor]) -> CoarseChange:
    """Compare pictures of the same seeds under each value of a control.

    Args:
        seen: value -> coarse pictures [n, D], of the same seeds in the same order.

    Raises:
        DataError: There are fewer than two pictures or values, or all pictures are equal.
    """
    count = len(next(iter(seen.values()), ()))
    if count < 2 or len(seen) < 2:
        raise DataError(f"coarse_change: {count} pictures under {len(seen)} values", needed="two of each")
    pairs = list(itertools.combinations(seen, 2))
    differences = torch.stack([_mean_square(seen[a] - seen[b]) for a, b in pairs])
    apart = {value: _from_others(each) for value, each in seen.items()}
    total = torch.stack(list(apart.values())).mean(dim=0)
    if not total.max() > _EQUAL:
        raise DataError("coarse_change: all pictures are equal, whatever their noise", needed="pictures that differ")
    shares = {
        f"{a}|{b}": float(change.sum() / ((apart[a] + apart[b]).sum() / 2).clamp(min=torch.finfo(torch.float64).tiny))
        for (a, b), change in zip(pairs, differences, strict=True)
    }
    return CoarseChange(differences.mean(dim=0), total, shares)


def _mean_square(rows: Tensor) -> Tensor:
    return rows.square().mean(dim=1, dtype=torch.float64)


def _from_others(flat: Tensor) -> Tensor:
    """Mean square of the difference of each row of [n, D] from all other rows, averaged over them, float64 [n]."""
    count = len(flat)
    squares = _mean_square(flat - flat.mean(dim=0))
    # Centred rows sum to 0, so that the products of a row with all others sum to minus its own square.
    return (count * squares + squares.sum()) / (count - 1)
