#!/usr/bin/env bash
# Pillow and a 16-bit RGB TIFF whose planes are stored separately.
#
# Input: one picture of 4 x 6 px, uint16, written by tifffile as RGB: planes separate or together, plain or compressed (zlib), and
# the same in 8 bits.
#
# Expected: the same picture from every file. Pillow has no RGB of 16 bits and takes the high byte of each value.
#
# Seen (Pillow 13.0.0 and 12.3.0, x86-64): all are right but one. Separate planes of 16 bits without compression give other values,
# without an error: the planes are read as bytes, so that low and high bytes become neighbouring pixels and half of each plane
# is never read.
#
# Exits with 0 while this behaviour is there, with 1 once it changes. No code of this project is used.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check pillow==13.0.0 tifffile==2026.3.3 numpy==2.4.6
"$work/venv/bin/python" - <<'PYTHON'
import io
import itertools
import sys

import numpy as np
import PIL
import tifffile
from PIL import Image

wide = np.random.default_rng(0).integers(0, 65536, (4, 6, 3)).astype(np.uint16)
high = (wide >> 8).astype(np.uint8)


def read(values: np.ndarray, planes: str, compression: str | None) -> np.ndarray:
    stream = io.BytesIO()
    stored = np.moveaxis(values, 2, 0) if planes == "separate" else values
    tifffile.imwrite(stream, stored, photometric="rgb", planarconfig=planes, compression=compression)
    return np.asarray(Image.open(io.BytesIO(stream.getvalue())))


print(f"Pillow {PIL.__version__}, tifffile {tifffile.__version__}")
wrong = []
for values, planes, compression in itertools.product((high, wide), ("contig", "separate"), (None, "zlib")):
    found = read(values, planes, compression)
    right = np.array_equal(found, high)
    bits = 8 * values.itemsize
    wrong += [] if right else [(bits, planes, compression)]
    off = float(np.abs(found.astype(int) - high).mean())
    print(f"{bits:>2} bits, {planes:<8} {compression or 'plain':<5} {'right' if right else f'off by {off:.0f} of 255 in the mean'}")
sys.exit(0 if wrong == [(16, "separate", None)] else 1)
PYTHON
