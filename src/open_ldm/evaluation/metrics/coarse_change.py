"""Coarse change: how much whole pictures change when only one control changes, with no reader. Unwanted; lower is better.

With C x a picture at the detail that all values of the control can show, and x_i,v the picture of seed i under the value v,

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

from open_ldm.core.errors import ConfigError, DataError
from open_ldm.core.pictures import to_images
from open_ldm.evaluation.bootstrap import BootstrapConfig, Estimate, estimate, weights
from open_ldm.evaluation.features.resize import coarsened
from open_ldm.evaluation.metrics.content_change import FLIP, SIZE, TOUCHED, changed_as_real, shown_size_px

_SHARE_OF_SIDE = 4
"""The detail that is compared where the control is no size: this part of each side."""
_EQUAL = 1e-20
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
        """Return c, called `name`, with its bootstrap interval over seeds."""
        drawn = weights(bootstrap, len(self.changes), name)
        value = float(self.changes.sum() / self.apart.sum())
        replicates = (drawn @ self.changes) / (drawn @ self.apart)
        return estimate(name, value, replicates, bootstrap, len(self.changes), least=0.0)


def compared_detail(control: str, values: Sequence[Sequence[float]], view_px: tuple[int, int]) -> tuple[int, int]:
    """Return (height, width) in pixels of what is compared: what the smallest size can show, else a quarter of each side.

    Args:
        control: Its option.
        values: The numbers of its values; for the size height and width in pixels.
        view_px: Height and width of the pictures.

    Raises:
        ConfigError: The control is there to change whole pictures, or no size is below that of the pictures.
    """
    if control in TOUCHED and control != FLIP:
        raise ConfigError(
            f"coarse_change: {control} is there to change whole pictures",
            needed="size, flip or a column of metadata",
            fix="content_change, which can leave out what it may change",
        )
    if control != SIZE:
        return max(1, view_px[0] // _SHARE_OF_SIDE), max(1, view_px[1] // _SHARE_OF_SIDE)
    shown = [shown_size_px((round(height), round(width)), view_px) for height, width in values]
    kept = min(height for height, _ in shown), min(width for _, width in shown)
    if kept == view_px:
        raise ConfigError("coarse_change: no size is below that of the pictures", fix="values=[16x16, 64x64]")
    return kept


def coarse_change(control: str, pixels: Mapping[str, Tensor], kept_px: tuple[int, int]) -> CoarseChange:
    """Compare pictures of the same seeds under each value of a control, at the detail `kept_px`.

    Under `flip=1` the mirror image is compared.

    Args:
        control: Its option.
        pixels: value -> pictures uint8 [n, C, H, W], of the same seeds in the same order.
        kept_px: (height, width), as `compared_detail` gives it.

    Raises:
        DataError: There are fewer than two pictures or values, or all pictures are equal.
    """
    seen = {value: _coarse(control, value, each, kept_px) for value, each in pixels.items()}
    count = len(next(iter(seen.values()), ()))
    if count < 2 or len(seen) < 2:
        raise DataError(f"coarse_change: {count} pictures under {len(seen)} values", needed="two of each")
    pairs = list(itertools.combinations(seen, 2))
    differences = torch.stack([(seen[a] - seen[b]).square().mean(dim=1) for a, b in pairs])
    apart = {value: _from_others(each) for value, each in seen.items()}
    total = torch.stack(list(apart.values())).mean(dim=0)
    if not total.max() > _EQUAL:
        raise DataError("coarse_change: all pictures are equal, whatever their noise", needed="pictures that differ")
    shares = {
        f"{a}|{b}": float(change.sum() / ((apart[a] + apart[b]).sum() / 2).clamp(min=torch.finfo(torch.float64).tiny))
        for (a, b), change in zip(pairs, differences, strict=True)
    }
    return CoarseChange(differences.mean(dim=0), total, shares)


def coarse_floor(control: str, pixels: Tensor, values: Sequence[str], kept_px: tuple[int, int]) -> CoarseChange | None:
    """Measure the floor: how far real pictures that show the same are apart, since a coarse original was enlarged.

    Args:
        control: Its option.
        pixels: Real pictures uint8 [n, C, H, W].
        values: As given to `coarse_change`, by name.
        kept_px: As there.

    Returns:
        What changed; None for a control that no real picture can be brought under.
    """
    real = changed_as_real(control, pixels, values)
    return None if real is None else coarse_change(control, real, kept_px)


def _coarse(control: str, value: str, pixels: Tensor, kept_px: tuple[int, int]) -> Tensor:
    """Pictures as they are compared, float64 [n, C*H*W]."""
    upright = pixels.flip(-1) if control == FLIP and value == "1" else pixels
    return coarsened(to_images(upright).double(), kept_px).flatten(1)


def _from_others(flat: Tensor) -> Tensor:
    """Mean square of the difference of each row of [n, D] from all other rows, averaged over them, float64 [n]."""
    count = len(flat)
    centred = flat - flat.mean(dim=0)
    squares = centred.square().mean(dim=1)
    # Centred rows sum to 0, so that the products of a row with all others sum to minus its own square.
    return (count * squares + squares.sum()) / (count - 1)
