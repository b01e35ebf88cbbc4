"""Control effect: how much of what a control does to real pictures it does to samples. Wanted; 0 nothing, 1 as much.

T is a statistic of a picture that the control is there to change. With its mean r_v over real pictures whose own setting is
near the value v, and r the mean of all r_v, the effect of picture i, sampled under every value, is

    e_i = sum_v (r_v - r) T(x_i,v) / sum_v (r_v - r)^2,

the slope of the regression of the samples' statistic on that of real pictures. It is linear in the samples, so that the
effect of a run is the mean of e_i. For a flip real pictures have the effect 1, and e_i is 1 for a picture that is mirrored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from open_ldm.core.errors import ConfigError, DataError
from open_ldm.core.pictures import to_images
from open_ldm.evaluation.features.resize import coarsened
from open_ldm.evaluation.metrics.content_change import shown_size_px
from open_ldm.evaluation.readers.base import PLACE, Reader, mirrored

LEAST_REAL = 10
"""Real pictures that a value needs near it to be compared with."""
CERTAIN = 3.0
"""Standard errors by which real pictures of two values must differ for the control to have an effect on real pictures."""


@dataclass(frozen=True)
class Statistic:
    """What is measured of every picture: uint8 [B, C, H, W] -> float64 [B]. `name`: for protocols."""

    name: str
    measure: Callable[[Tensor], Tensor]


def detail_energy(pixels: Tensor, kept_px: tuple[int, int]) -> Tensor:
    """Mean over channels and positions of (x - C(x))^2, float64 [B], for x in [0, 1].

    C shrinks a picture to `kept_px` (height, width) and enlarges it again, so that what is measured is the energy of all that
    does not survive at that size.
    """
    images = to_images(pixels).double() / 2
    return (images - coarsened(images, kept_px)).square().flatten(1).mean(dim=1)


def border_energy(pixels: Tensor) -> Tensor:
    """Mean squared step between neighbouring pixels along the top and left edges less that along the bottom and right ones,
    float64 [B], for x in [0, 1].

    A crop at (0, 0) shows the picture's own top and left edges, where subjects seldom reach, and cuts it at the bottom and on
    the right; one farther down or right cuts the top or left, and outlines reach those edges. It is their difference, since
    the energy along all edges is the same for a crop and its opposite. The edges are an eighth of each side wide.
    """
    images = to_images(pixels).double() / 2
    energy = torch.zeros(len(images), *images.shape[-2:], dtype=torch.float64, device=images.device)
    energy[:, 1:] += (images[:, :, 1:] - images[:, :, :-1]).square().mean(dim=1)
    energy[:, :, 1:] += (images[:, :, :, 1:] - images[:, :, :, :-1]).square().mean(dim=1)
    height, width = images.shape[-2:]
    first = torch.zeros(height, width, dtype=torch.bool, device=images.device)
    last = first.clone()
    rows, columns = max(1, height // 8), max(1, width // 8)
    first[:rows] = first[:, :columns] = True
    last[height - rows :] = last[:, width - columns :] = True
    return energy[:, first].mean(dim=1) - energy[:, last].mean(dim=1)


def statistic_of(control: str, values: Sequence[Sequence[float]], view_px: tuple[int, int]) -> Statistic:
    """Return what `control` (its option) is there to change in a picture of `view_px`.

    Args:
        control: Its option.
        values: The numbers of its values; for the size height and width in pixels.
        view_px: Height and width of the pictures.

    Raises:
        ConfigError: Nothing is known of this control, or all sizes are as large as the view.
    """
    if control == "size":
        smallest = min(values, key=math.prod)
        kept = shown_size_px((int(smallest[0]), int(smallest[1])), view_px)
        if kept == view_px:
            raise ConfigError(
                "control_effect: no size is below that of the pictures, so none has less detail", fix="values=[16x16, 64x64]"
            )
        return Statistic(f"detail beyond {kept[0]}x{kept[1]} px", lambda pixels: detail_energy(pixels, kept))
    if control == "crop":
        return Statistic("energy at the first edges less that at the last", border_energy)
    raise ConfigError(f"control_effect cannot tell what {control} should change", needed="size, crop or flip")


def nearest_value(numbers: Tensor, values: Tensor) -> Tensor:
    """Return the index of the value [V, D] nearest to each setting [n, D]; -1 where none is near. int64 [n].

    Near is up to half the distance of the two closest values.
    """
    apart = torch.cdist(values, values)
    closest = apart[~torch.eye(len(values), dtype=torch.bool)].min()
    distance, index = torch.cdist(numbers, values).min(dim=1)
    return torch.where(distance <= closest / 2, index, -1)


def near_values(measured: Tensor, nearest: Tensor, values: Sequence[str], verb: str = "are near") -> dict[str, Tensor]:
    """Divide what was measured of real pictures by the value that is nearest to each, float64.

    Args:
        measured: Numbers [n] or [n, D] of n pictures.
        nearest: Index of the value of each picture, int64 [n]; -1 for none of them.
        values: The values.
        verb: What an error says of pictures and values: "are near", or "have".

    Returns:
        Those of each value with `LEAST_REAL` pictures or more, in the order of the values.

    Raises:
        DataError: Fewer than two values have enough pictures.
    """
    near = {value: measured[nearest == index].double() for index, value in enumerate(values)}
    kept = {value: each for value, each in near.items() if len(each) >= LEAST_REAL}
    if len(kept) < 2:
        found = ", ".join(f"{value}: {len(each)}" for value, each in near.items())
        raise DataError(
            f"control_effect: too few real pictures {verb} the values ({found})",
            needed=f"two values with at least {LEAST_REAL}",
            fix="other values, or more real_pictures",
        )
    return kept


@dataclass(frozen=True)
class RealStatistic:
    """Means of a statistic over real pictures near each value; only values with `LEAST_REAL` pictures or more.

    `left_out`: values with too few; `counts`: pictures near each of the others.
    """

    means: Mapping[str, float]
    counts: Mapping[str, int]
    left_out: tuple[str, ...]


def real_statistic(statistics: Tensor, nearest: Tensor, values: Sequence[str]) -> RealStatistic:
    """Average statistics [n] of real pictures over those near each value, by `nearest_value`.

    Raises:
        DataError: Fewer than two values have enough pictures, or real pictures do not differ between them.
    """
    kept = near_values(statistics, nearest, values)
    means = {value: float(each.mean()) for value, each in kept.items()}
    low, high = min(means, key=means.__getitem__), max(means, key=means.__getitem__)
    error = math.hypot(*(float(kept[value].std()) / math.sqrt(len(kept[value])) for value in (low, high)))
    if means[high] - means[low] <= CERTAIN * error:
        raise DataError(
            f"control_effect: real pictures near {low} and {high} do not differ for certain",
            needed="values at which real pictures differ",
            fix="values farther apart, or more real_pictures",
        )
    counts = {value: len(each) for value, each in kept.items()}
    return RealStatistic(means, counts, tuple(value for value in values if value not in kept))


def slope_effects(samples: Mapping[str, Tensor], real: Mapping[str, float]) -> Tensor:
    """Return e_i, float64 [n], of n pictures whose statistic under each value v is samples[v] [n]; see the top of this file."""
    centre = sum(real.values()) / len(real)
    spread = sum((mean - centre) ** 2 for mean in real.values())
    level = samples[next(iter(real))].double()  # cancels, since the weights sum to 0; without it rounding would be left
    weighed = [(mean - centre) / spread * (samples[value].double() - level) for value, mean in real.items()]
    return torch.stack(weighed).sum(dim=0)


def mirror_effects(plain: Tensor, flipped: Tensor, reader: Reader | None) -> Tensor:
    """Return for each picture whether `flipped` shows the mirror image of `plain`, both uint8 [n, C, H, W]: 0 or 1, [n].

    With a reader of places: whether left and right are exchanged. Otherwise: whether the picture is nearer, pixel by pixel, to
    the mirror image than to the picture as it was.
    """
    if reader is not None and PLACE in reader.attributes:
        pairs = zip(reader.read(plain), reader.read(flipped), strict=True)
        return torch.tensor([bool(one[PLACE]) and mirrored(one)[PLACE] == other[PLACE] for one, other in pairs]).double()
    was, now = to_images(plain).double().flatten(1), to_images(flipped).double().flatten(1)
    mirror = to_images(plain.flip(-1)).double().flatten(1)
    return ((now - mirror).square().mean(dim=1) < (now - was).square().mean(dim=1)).double()
