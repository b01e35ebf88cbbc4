"""What OME-TIFF files say of themselves, as columns beside those of the metadata: `ome.pixel_size_um` and `ome.channels`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from open_ldm.data.columns import Column, Columns, build_column
from open_ldm.data.ome import CHANNELS, PIXEL_SIZE, Ome
from open_ldm.data.sample import BadPicture
from open_ldm.data.survey import spread

_LOOKED_AT = 16

OmeAt = Callable[[int], Ome]
"""Reads the OME-XML of a sample's file. Raises BadPicture."""


def with_ome(columns: Columns, length: int, ome_at: OmeAt) -> Columns:
    """Return the columns with those of OME where one of 16 files is OME-TIFF; they are read when one is asked for.

    Args:
        columns: Those of the metadata, which count before OME's of the same name.
        length: Number of samples.
        ome_at: Reads what the file of a sample says. A sample whose file cannot be read has no values.
    """
    if not any(_read(ome_at, index).columns() for index in spread(length, _LOOKED_AT)):
        return columns
    own = [name for name in (PIXEL_SIZE, CHANNELS) if name not in columns]
    return Columns([*columns, *own], _WithOme(columns, length, ome_at), {*columns.roles, CHANNELS})


@dataclass(frozen=True)
class _WithOme:
    columns: Columns
    length: int
    ome_at: OmeAt

    def __call__(self, names: Sequence[str]) -> Mapping[str, Column]:
        given = [name for name in names if name in self.columns]
        self.columns.prepare(given)
        found = {name: self.columns[name] for name in given}
        wanted = [name for name in names if name not in found]
        if wanted:
            rows = [_read(self.ome_at, index).columns() for index in range(self.length)]
            found |= {name: build_column(name, [row.get(name) for row in rows]) for name in wanted}
        return found


def _read(ome_at: OmeAt, index: int) -> Ome:
    try:
        return ome_at(index)
    except BadPicture:
        return Ome()
