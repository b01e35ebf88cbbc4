"""Drawn cells in five channels of a 12-bit camera: nucleus, membrane, cytoplasm, granules, skeleton. No data set is shipped.

`python -m tests.cells FOLDER COUNT SIDE` writes COUNT pictures of each class, every second one as TIFF.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CHANNELS = ("nucleus", "membrane", "cytoplasm", "granules", "skeleton")
CLASSES = ("control", "treated")
TOP = 4095

Array = np.ndarray[Any, Any]


def cells(seed: int, side: int, treated: bool) -> Array:
    """uint16 [side, side, 5], 0 to 4095. Treated cells have large nuclei and few granules."""
    draw = np.random.default_rng([seed, treated])
    y, x = np.mgrid[0:side, 0:side] / side
    light = np.zeros((side, side, len(CHANNELS)))
    for _ in range(draw.integers(2, 5)):
        middle_y, middle_x = draw.uniform(0.15, 0.85, 2)
        tilt, long, wide = draw.uniform(0, np.pi), draw.uniform(0.16, 0.24), draw.uniform(0.10, 0.16)
        along = (np.cos(tilt) * (x - middle_x) + np.sin(tilt) * (y - middle_y)) / long
        across = (np.cos(tilt) * (y - middle_y) - np.sin(tilt) * (x - middle_x)) / wide
        far = np.sqrt(along**2 + across**2)
        core = far / (0.62 if treated else 0.42)
        light[:, :, 0] += 0.9 / (1 + np.exp(12 * (core - 1)))
        light[:, :, 1] += 0.8 * np.exp(-(((far - 1) / 0.12) ** 2))
        light[:, :, 2] += 0.5 / (1 + np.exp(8 * (far - 1))) * (core > 1)
        light[:, :, 4] += 0.6 * np.maximum(0, np.cos(9 * along + 5 * across)) ** 4 * np.exp(-((far / 0.9) ** 4))
        for _ in range(3 if treated else 14):
            turn, reach = draw.uniform(0, 2 * np.pi), draw.uniform(0.45, 0.9)
            spot_y = middle_y + reach * (np.sin(tilt) * long * np.cos(turn) + np.cos(tilt) * wide * np.sin(turn))
            spot_x = middle_x + reach * (np.cos(tilt) * long * np.cos(turn) - np.sin(tilt) * wide * np.sin(turn))
            light[:, :, 3] += 0.9 * np.exp(-((y - spot_y) ** 2 + (x - spot_x) ** 2) / 0.018**2)
    noisy = np.clip(light, 0, 1) * 0.9 + 0.04 + draw.normal(0, 0.01, light.shape)
    return np.round(np.clip(noisy, 0, 1) * TOP).astype(np.uint16)


def tiff_bytes(array: Array) -> bytes:
    """[H, W, N] as a TIFF of N pages."""
    first, *others = [Image.fromarray(np.ascontiguousarray(array[:, :, channel])) for channel in range(array.shape[2])]
    stream = io.BytesIO()
    first.save(stream, "TIFF", save_all=True, append_images=others)
    return stream.getvalue()


def write_cells(folder: Path, count: int, side: int) -> Path:
    """CLASS/NUMBER.npy and .tif, `count` of each class."""
    for treated, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            array = cells(number, side, bool(treated))
            if number % 2:
                (folder / name / f"{number:04d}.tif").write_bytes(tiff_bytes(array))
            else:
                np.save(folder / name / f"{number:04d}.npy", array)
    return folder


if __name__ == "__main__":
    write_cells(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
