"""An .npz file of many pictures, written without holding them in memory: what the usual FID programs read.

The layout is that of ADM's evaluation (guided-diffusion, `evaluator.py`), which DiT, MDT and EDM's scripts write too: one
array `arr_0`, uint8 [N, H, W, 3], not compressed.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from open_ldm.core.errors import DataError
from open_ldm.core.files import writing_whole
from open_ldm.sources.array_pictures import ARRAY

_NO_DATE = (1980, 1, 1, 0, 0, 0)


def write_npz(path: Path, shape: tuple[int, int, int, int], parts: Iterable[NDArray[np.uint8]]) -> None:
    """Write parts one after another as one array, whole or not at all; equal pictures give equal bytes.

    Args:
        path: Of the .npz file.
        shape: [N, H, W, 3] of the whole array.
        parts: uint8 [n, H, W, 3]; their n add up to N. One is held at a time.

    Raises:
        DataError: The parts do not make an array of this shape.
        DiskError: The disk refuses.
    """
    entry = zipfile.ZipInfo(f"{ARRAY}.npy", _NO_DATE)
    rows = 0
    with writing_whole(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        with archive.open(entry, "w", force_zip64=True) as array:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(array, header)
            for part in parts:
                if part.dtype != np.uint8 or part.shape[1:] != shape[1:]:
                    raise DataError(f"a part is {part.dtype} {list(part.shape)}", needed=f"uint8 [n, {list(shape[1:])}]")
                array.write(np.ascontiguousarray(part).data.cast("B"))
                rows += len(part)
        if rows != shape[0]:
            raise DataError(f"the parts hold {rows:,} pictures", needed=f"{shape[0]:,}")
