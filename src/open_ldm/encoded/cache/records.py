"""How the TransformRecords of views are stored.

The first layout is one tensor `record`, int32 [rows, 9], whose columns are known by their order. It stays the layout of all
that it can tell, so that no cache changes. Views that may be turned, or have several shapes, have one column for each field,
`record.FIELD`, of its own dtype.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from open_ldm.data.sample import TransformRecord
from open_ldm.data.transforms import TransformConfig
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
_DTYPES = dict.fromkeys(_ORDERED, torch.int32) | {"flip": torch.bool, "quarter_turns": torch.uint8}
_PREFIX = "record."


def record_columns(records: Sequence[TransformRecord], transform: TransformConfig) -> dict[str, Tensor]:
    """Write the records of views that were cut by `transform` as tensors [rows] or [rows, 9] by name."""
    if transform.turn != "none" or transform.buckets is not None:
        return {
            f"{_PREFIX}{name}": torch.tensor([getattr(record, name) for record in records], dtype=dtype)
            for name, dtype in _DTYPES.items()
        }
    rows = [[getattr(record, name) for name in _ORDERED] for record in records]
    return {"record": torch.tensor(rows, dtype=torch.int32)}


def read_record(arrays: Mapping[str, Array], row: int) -> TransformRecord:
    """Read the record of a row, in whichever layout it was written."""
    if "record" not in arrays:
        return TransformRecord(**{name: arrays[f"{_PREFIX}{name}"][row].item() for name in _DTYPES})
    numbers = dict(zip(_ORDERED, arrays["record"][row].tolist(), strict=True))
    return TransformRecord(**{**numbers, "flip": bool(numbers["flip"])})
