"""How latents of several shapes are stored in one shard, as named columns.

A section whose views all have one shape holds `mean` and, where there is one, `std` [rows, C, h, w]. One of several shapes has
`mean.HxW` and `std.HxW` for each shape that occurs, with H and W the sides of the views in pixels, and `row` int32 [rows], the
place of a view's latents in the tensors of its shape, which its record tells. The record and the rest have one entry a row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

import torch
from torch import Tensor

from open_ldm.data.buckets import Buckets
from open_ldm.encoded.cache.mapped import Array

LATENTS = ("mean", "std")
ROW = "row"
_HEIGHT, _WIDTH = "record.height_px", "record.width_px"


def batches_of_shapes(rows: range, batch_size: int, buckets: Buckets) -> list[list[int]]:
    """Cut the rows of a shard into batches of at most `batch_size`, each of one shape; always the same ones."""
    ordered = sorted(rows, key=lambda row: (int(buckets.numbers[row]), row))
    batches = []
    for _, group in groupby(ordered, key=lambda row: int(buckets.numbers[row])):
        own = list(group)
        batches += [own[start : start + batch_size] for start in range(0, len(own), batch_size)]
    return batches


def joined_shapes(parts: Sequence[Mapping[str, Tensor]], rows: Sequence[int]) -> dict[str, Tensor]:
    """Join the batches of a shard.

    Args:
        parts: The tensors of each batch, as `LatentsMaker.encode` gives them.
        rows: The row of each of their entries, one batch after the other.

    Returns:
        The columns of the shard, entry i for its row number i.
    """
    back = torch.tensor(rows).argsort()
    first = parts[0]
    columns = {name: torch.cat([part[name] for part in parts])[back] for name in first if name not in LATENTS}
    by_shape: dict[str, list[Mapping[str, Tensor]]] = {}
    places: list[int] = []
    for part in parts:
        own = by_shape.setdefault(f"{int(part[_HEIGHT][0])}x{int(part[_WIDTH][0])}", [])
        start = sum(len(before["mean"]) for before in own)
        places += range(start, start + len(part["mean"]))
        own.append(part)
    columns[ROW] = torch.tensor(places, dtype=torch.int32)[back]
    for shape, own in by_shape.items():
        for name in LATENTS:
            if name in first:
                columns[f"{name}.{shape}"] = torch.cat([part[name] for part in own])
    return columns


def view_in(arrays: Mapping[str, Array], at: int) -> dict[str, Array]:
    """Return all that a shard holds of one row, its latents as `mean` and `std` whatever the shapes of the others."""
    if ROW not in arrays:
        return {name: array[at] for name, array in arrays.items()}
    shape, place = f".{arrays[_HEIGHT][at]}x{arrays[_WIDTH][at]}", arrays[ROW][at]
    own = {name: arrays[name + shape][place] for name in LATENTS if name + shape in arrays}
    others = (name for name in arrays if name != ROW and name.split(".")[0] not in LATENTS)
    return {**own, **{name: arrays[name][at] for name in others}}


def latents_in(arrays: Mapping[str, Array], at: int) -> tuple[Array, Array | None]:
    """Return mean and deviation [C, h, w] of one row; None for a deviation that is not stored."""
    if ROW not in arrays:
        return arrays["mean"][at], arrays["std"][at] if "std" in arrays else None
    shape, place = f".{arrays[_HEIGHT][at]}x{arrays[_WIDTH][at]}", arrays[ROW][at]
    return arrays[f"mean{shape}"][place], arrays[f"std{shape}"][place] if f"std{shape}" in arrays else None


def dtype_of_latents(tensors: Mapping[str, Tensor]) -> torch.dtype:
    """Return the number format of a shard's latents."""
    return next(tensor.dtype for name, tensor in tensors.items() if name.split(".")[0] == "mean")
