"""Statistics on disk: measured once for a data set, used again for every run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import safetensors
from safetensors import SafetensorError
from torch import Tensor

from open_ldm.core.errors import DataError
from open_ldm.core.files import hash_file, remove_temporary_files, write_json
from open_ldm.core.plain_data import parse_json
from open_ldm.core.tensor_file import write_tensors
from open_ldm.evaluation.bank import Rows
from open_ldm.evaluation.features.base import ExtractorId
from open_ldm.evaluation.moments import Moments
from open_ldm.evaluation.pictures import PictureSet
from open_ldm.evaluation.statistics import ROWS_AT_ONCE, Statistics

TENSORS = "statistics.safetensors"
DESCRIPTION = "statistics.json"
_OPTIONAL = ("probabilities", "scores")
_ROWS = ("keys", "numbers", "vectors", *_OPTIONAL)


def save_statistics(folder: Path, statistics: Statistics) -> None:
    """Write statistics.safetensors, then statistics.json which names and hashes it. Raises DiskError."""
    rows = statistics.rows
    tensors = {"mean": statistics.moments.mean, "scatter": statistics.moments.scatter}
    tensors |= {"keys": rows.keys, "numbers": rows.numbers, "vectors": rows.vectors}
    tensors |= {name: tensor for name in _OPTIONAL if (tensor := getattr(rows, name)) is not None}
    remove_temporary_files(folder)
    write_tensors(folder / TENSORS, tensors)
    pictures = asdict(statistics.pictures) | {"total": str(statistics.pictures.total)}  # longer than JSON's numbers
    description = {
        "extractor": statistics.extractor.to_json(),
        "pictures": pictures,
        "hash": statistics.pictures.hash,
        "sha256": hash_file(folder / TENSORS),
    }
    write_json(folder / DESCRIPTION, description)


def load_statistics(folder: Path, *, rows: bool = True) -> Statistics:
    """Load what `save_statistics` wrote, with its rows or without any.

    Raises:
        DataError: A file is missing, damaged or not the one described.
    """
    try:
        content: dict[str, Any] = parse_json((folder / DESCRIPTION).read_text(encoding="utf-8"), finite=False)
        if content["sha256"] != hash_file(folder / TENSORS):
            raise DataError(f"{folder / TENSORS} is not the file that {DESCRIPTION} describes", fix="measure it again")
        with safetensors.safe_open(folder / TENSORS, framework="pt") as opened:
            names = opened.keys() if rows else ("mean", "scatter")
            tensors: dict[str, Tensor] = {name: opened.get_tensor(name) for name in names}
        given = content["pictures"]
        pictures = PictureSet(given["count"], (given["size_px"][0], given["size_px"][1]), int(given["total"]))
        single = _rows_in(tensors) if rows else Rows.none(len(tensors["mean"]))
        moments = Moments(pictures.count, tensors["mean"], tensors["scatter"])
        return Statistics(ExtractorId(**content["extractor"]), pictures, moments, single)
    except (OSError, ValueError, KeyError, TypeError, IndexError, SafetensorError) as error:
        raise DataError(
            f"{folder} holds no usable statistics ({type(error).__name__})",
            needed=f"{DESCRIPTION} and {TENSORS}",
            fix="measure the data set again",
        ) from error


def read_portions(folder: Path) -> Iterator[Rows]:
    """Read the rows that `save_statistics` wrote, some thousand at a time; the file is opened anew for each portion, so that
    what was mapped for one is given back."""
    start, count = 0, 1
    while start < count:
        with safetensors.safe_open(folder / TENSORS, framework="pt") as opened:
            count = opened.get_slice("keys").get_shape()[0]
            names = [name for name in _ROWS if name in opened.keys()]  # noqa: SIM118 - no mapping
            yield _rows_in({name: opened.get_slice(name)[start : start + ROWS_AT_ONCE].clone() for name in names})
        start += ROWS_AT_ONCE


def _rows_in(tensors: Mapping[str, Tensor]) -> Rows:
    return Rows(tensors["keys"], tensors["numbers"], tensors["vectors"], *(tensors.get(name) for name in _OPTIONAL))
