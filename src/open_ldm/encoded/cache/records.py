"""How the TransformRecords of views are stored.

The first layout is one tensor `record`, int32 [rows, 9], whose columns are known by their order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from open_ldm.data.sample import TransformRecord
from open_ldm.encoded.cache.mapped import Array

_ORDERED = (
    "original_height_px",
    "original_width_px",
    "scaled_height_px",
    "scaled_width_px",
    "crop_top_px",
    "crop_left_px",
    "height_px",
    "width_px",
    "flip",
)
_DTYPES = dict.fromkeys(_ORDERED, torch.int32) | {"flip": torch.bool}
_PREFIX = "record."


def record_columns(records: Sequence[TransformRecord]) -> dict[str, Tensor]:
    """Write the records of one section as tensors [rows, ...] by name."""
    rows = [[getattr(record, name) for name in _ORDERED] for record in records]
    return {"record": torch.tensor(rows, dtype=torch.int32)}


def read_record(arrays: Mapping[str, Array], row: int) -> TransformRecord:
    """Read the record of a row, in whichever layout it was written."""
    numbers = dict(zip(_ORDERED, arrays["record"][row].tolist(), strict=True))
    return TransformRecord(**{**numbers, "flip": bool(numbers["flip"])})
