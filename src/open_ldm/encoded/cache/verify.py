"""Verifying a cache: its bytes against their hashes, and some entries against the pictures that they were made of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from open_ldm.encoded.cache.build import Work
from open_ldm.encoded.cache.cache import Cache, Part
from open_ldm.encoded.cache.columns import ColumnsMaker
from open_ldm.encoded.cache.latents import LatentsMaker
from open_ldm.encoded.cache.mapped import Array, MappedSection, as_array
from open_ldm.encoded.cache.measures import MeasuresMaker
from open_ldm.encoded.cache.samples import SamplesMaker
from open_ldm.encoded.cache.shapes import view_in
from open_ldm.encoded.cache.text import TextMaker
from open_ldm.sources.loader import read_fixed_views

TOLERANCE = 0.01
"""Largest difference, as a share of the largest number, that rounding on another device or to bfloat16 explains."""

_ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class Wrong:
    """A stored entry that does not belong to its picture, transform, label or caption: its section, and what is wrong."""

    section: Path
    what: str


@dataclass(frozen=True)
class Checked:
    """The result of making entries again.

    Attributes:
        entries: Number of entries.
        difference: Largest difference of any stored number, as a share of the largest number of its tensor.
        wrong: Entries that differ by more than rounding explains, or in whole numbers.
    """

    entries: int
    difference: float
    wrong: tuple[Wrong, ...]


def drop_damaged(cache: Cache) -> Iterator[str]:
    """Read all finished shards, remove those whose bytes have changed, so that they are made again, and yield the problems."""
    for part in cache.parts:
        for shard, problem in part.section.damaged():
            part.section.discard(shard)
            yield problem


def check_entries(cache: Cache, entries: int) -> Checked:
    """Make `entries` rows of every section again and compare everything that is stored of them.

    For latents these are the mean, the deviation, the TransformRecord and the sample used, encoded together with the rest of
    their batch; for captions the tokens, mask and pooled vector of each; and labels and ids.
    """
    checks = [_checked(part, _pairs(part, _spread(part.section.plan.rows, entries))) for part in cache.parts]
    return Checked(
        sum(check.entries for check in checks),
        max(check.difference for check in checks),
        tuple(wrong for check in checks for wrong in check.wrong),
    )


@dataclass(frozen=True)
class _Pair:
    """One row, or one caption of it: what is made of it now, and what is stored."""

    row: int
    made: Mapping[str, Tensor]
    kept: Mapping[str, Array]


def _pairs(part: Part, rows: Sequence[int]) -> Iterator[_Pair]:
    stored = MappedSection(part.section)
    match part.maker:
        case LatentsMaker() as latents:
            yield from _latents(part, latents, stored, rows)
        case TextMaker() as text:
            for portion in _portions(rows):
                made = text.encode(portion, Work())
                for index, row in enumerate(portion):
                    kept, at = stored.at(row)
                    yield from _captions(row, made, index, kept, at)
        case MeasuresMaker() as measures:
            for row in rows:
                kept, at = stored.at(row)
                yield _Pair(
                    row,
                    {name: _known(column) for name, column in measures.encode([row]).items()},
                    {name: _known(torch.from_numpy(column[at : at + 1])).numpy() for name, column in kept.items()},
                )
        case ColumnsMaker() as columns:
            for row in rows:
                kept, at = stored.at(row)
                made = {name: _known(column) for name, column in columns.encode([row]).items()}
                kept_row = {name: torch.from_numpy(column[at : at + 1]) for name, column in kept.items()}
                yield _Pair(row, made, {name: _known(column).numpy() for name, column in kept_row.items()})
        case SamplesMaker() as samples:
            for row in rows:
                kept, at = stored.at(row)
                begin, end = kept["begin"][at : at + 2]
                made = {name: tensor for name, tensor in samples.encode([row]).items() if name != "begin"}
                yield _Pair(row, made, {"label": kept["label"][at : at + 1], "ids": kept["ids"][begin:end]})


def _latents(part: Part, maker: LatentsMaker, stored: MappedSection, rows: Sequence[int]) -> Iterator[_Pair]:
    """Make each batch that contains a wanted row once."""
    wanted = set(rows)
    shards = [shard for shard, _ in groupby(rows, lambda row: row // part.section.rows_per_shard)]
    ranges = [batch for shard in shards for batch in maker.ranges(part.section, shard) if not wanted.isdisjoint(batch)]
    for batch in read_fixed_views(maker.source, maker.transform, maker.view, ranges, maker.workers, maker.buckets):
        made = maker.encode(batch)
        for index, row in enumerate(batch.positions):
            if row in wanted:
                kept, at = stored.at(row)
                own = {name: tensor[index] for name, tensor in made.items()}
                yield _Pair(row, own, view_in(kept, at))


def _captions(row: int, made: Mapping[str, Tensor], index: int, kept: Mapping[str, Array], at: int) -> Iterator[_Pair]:
    new = {name: as_array(tensor) for name, tensor in made.items()}
    ours, theirs = (arrays["captions"][slice(*arrays["first"][i : i + 2])] for arrays, i in ((new, index), (kept, at)))
    if len(ours) != len(theirs):
        yield _Pair(row, {"number": torch.tensor(len(ours))}, {"number": np.array(len(theirs))})
        return
    for one, other in zip(ours, theirs, strict=True):
        yield _Pair(
            row,
            {name: made[name][span] for name, span in _spans(new, one).items()},
            {name: kept[name][span] for name, span in _spans(kept, other).items()},
        )


def _spans(arrays: Mapping[str, Array], caption: int) -> dict[str, slice | int]:
    """Find where a caption's numbers are stored."""
    begin, end = map(int, arrays["begin"][caption : caption + 2])
    spans: dict[str, slice | int] = {"tokens": slice(begin, end), "mask": int(caption), "pooled": int(caption)}
    return {name: span for name, span in spans.items() if name in arrays}


def _checked(part: Part, pairs: Iterable[_Pair]) -> Checked:
    rows: set[int] = set()
    difference, wrong = 0.0, dict[int, Wrong]()
    for pair in pairs:
        rows.add(pair.row)
        if pair.made.keys() - pair.kept.keys():
            off = {"parts": 1.0}
        else:
            off = {name: _difference(made, pair.kept[name]) for name, made in pair.made.items()}
        difference = max(difference, *off.values())
        if names := [name for name, share in off.items() if share > TOLERANCE]:
            problem = f"{part.maker.source.sample_id(pair.row)}, {part.label}: what is stored is not what is made of it now"
            wrong.setdefault(pair.row, Wrong(part.section.path, f"{problem} ({', '.join(names)})"))
    return Checked(len(rows), difference, tuple(wrong.values()))


def _known(column: Tensor) -> Tensor:
    """Replace NaN, which says that a value is unknown, by a number that no measure has."""
    return column.nan_to_num(-1)


def _portions(rows: Sequence[int]) -> Iterator[Sequence[int]]:
    return (rows[start : start + _ROWS_AT_ONCE] for start in range(0, len(rows), _ROWS_AT_ONCE))


def _spread(length: int, count: int) -> list[int]:
    """Choose at most `count` rows, evenly spaced."""
    number = min(length, count)
    return [i * length // number for i in range(number)]


def _difference(made: Tensor, kept: Array) -> float:
    """Compute the largest difference as a share of the largest number.

    It is 1 for tensors of different shapes or dtypes, for whole numbers that differ, and for NaN.
    """
    other = torch.from_numpy(np.array(kept))
    other = other.view(torch.bfloat16) if made.dtype == torch.bfloat16 else other
    if made.shape != other.shape or made.dtype != other.dtype:
        return 1.0
    if not made.is_floating_point():
        return 0.0 if torch.equal(made, other) else 1.0
    if made.numel() == 0:
        return 0.0
    share = float((made.float() - other.float()).abs().max() / made.float().abs().max().clamp(min=1e-12))
    return 1.0 if math.isnan(share) else share
