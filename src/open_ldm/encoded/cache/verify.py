"""Is a cache what it says it is? Its bytes against their hashes, and some entries against the pictures they came from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from open_ldm.data.loader import read_fixed_views
from open_ldm.encoded.cache.build import Work
from open_ldm.encoded.cache.cache import Cache, Part
from open_ldm.encoded.cache.latents import LatentsMaker
from open_ldm.encoded.cache.mapped import Array, MappedSection
from open_ldm.encoded.cache.text import TextMaker

TOLERANCE = 0.01
"""Largest difference, as a share of the largest number, that rounding on another device or to bfloat16 explains."""


@dataclass(frozen=True)
class Checked:
    """Entries made again. `difference`: the largest, as a share of the largest number; `wrong`: one line for each that
    another picture, transform or caption must have made."""

    entries: int
    difference: float
    wrong: tuple[str, ...]


def drop_damaged(cache: Cache) -> Iterator[str]:
    """Read all finished shards; forget each whose bytes are not those written, so that it is made again, and say so."""
    for part in cache.parts:
        for shard, problem in part.section.damaged():
            part.section.discard(shard)
            yield problem


def check_entries(cache: Cache, entries: int) -> Checked:
    """Decode and encode `entries` pictures of each view again, with all that stood beside them in their batch, and the
    captions of as many samples."""
    found = [_check_latents(part, entries) for part in cache.latents]
    if cache.text is not None:
        found.append(_check_text(cache.text, entries))
    return Checked(
        sum(each.entries for each in found),
        max(each.difference for each in found),
        tuple(line for each in found for line in each.wrong),
    )


def _check_latents(part: Part, entries: int) -> Checked:
    section, maker, stored = part.section, part.maker, MappedSection(part.section)
    assert isinstance(maker, LatentsMaker)
    rows = _spread(section.plan.rows, entries)
    ranges = [
        next(batch for batch in maker.ranges(section.rows_of(row // section.rows_per_shard)) if row in batch) for row in rows
    ]
    batches = read_fixed_views(maker.source, maker.transform, maker.view, ranges, maker.workers)
    difference, wrong = 0.0, []
    for row, batch in zip(rows, batches, strict=True):
        made = {name: tensor[batch.positions.index(row)] for name, tensor in maker.encode(batch).items()}
        arrays, at = stored.at(row)
        off = _difference(made["mean"], arrays["mean"][at])
        same = all(np.array_equal(made[name].numpy(), arrays[name][at]) for name in ("record", "index"))
        difference = max(difference, off)
        if off > TOLERANCE or not same:
            wrong.append(f"{maker.source.sample_id(row)}, {part.label}: what is stored was not made from this picture")
    return Checked(len(rows), difference, tuple(wrong))


def _check_text(part: Part, entries: int) -> Checked:
    maker, stored = part.maker, MappedSection(part.section)
    assert isinstance(maker, TextMaker)
    rows = _spread(part.section.plan.rows, entries)
    difference, wrong = 0.0, []
    for row in rows:
        made = maker.encode(range(row, row + 1), Work())
        arrays, at = stored.at(row)
        begin, end = (arrays["first"][at + i] for i in (0, 1))
        captions = arrays["captions"][begin:end][np.unique(made["captions"].numpy(), return_index=True)[1]]
        spans = [slice(arrays["begin"][one], arrays["begin"][one + 1]) for one in captions]
        kept = np.concatenate([arrays["tokens"][span] for span in spans])
        same = kept.shape == made["tokens"].shape
        off = _difference(made["tokens"], kept) if same else 1.0
        difference = max(difference, off)
        if off > TOLERANCE:
            wrong.append(f"{maker.source.sample_id(row)}: the stored tokens are not those of its captions")
    return Checked(len(rows), difference, tuple(wrong))


def _spread(length: int, count: int) -> list[int]:
    """At most `count` rows, evenly spaced."""
    number = min(length, count)
    return [i * length // number for i in range(number)]


def _difference(made: Tensor, kept: Array) -> float:
    """The largest, as a share of the largest number; bfloat16 is kept as int16 of the same bits."""
    other = torch.from_numpy(kept.copy())
    other = other.view(torch.bfloat16) if made.dtype == torch.bfloat16 else other
    if made.numel() == 0:
        return 0.0
    return float((made.float() - other.float()).abs().max() / made.float().abs().max().clamp(min=1e-12))
