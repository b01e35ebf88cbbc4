#!/usr/bin/env bash
# Pillow and signed 16-bit values of a compressed big-endian TIFF.
#
# Input: one row 0, 100, 200, 300 of int16, written big-endian by tifffile, once plain and once compressed (zlib).
#
# Expected: the same four values from both files.
#
# Seen (Pillow 13.0.0 and 12.3.0, x86-64): the plain file is right; the compressed one gives 0, 25600, -14336, 11265, which are the same
# values with their bytes swapped, and no error. Unsigned 16-bit files are right both ways. libtiff hands out values in the order of
# the machine, and the raw mode of signed values still names the order of the file.
#
# Exits with 0 while this behaviour is there, with 1 once it changes. No code of this project is used.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check pillow==13.0.0 tifffile==2026.3.3 numpy==2.4.6
"$work/venv/bin/python" - <<'PYTHON'
import io
import sys

import numpy as np
import PIL
import tifffile
from PIL import Image


def read(dtype: str, compression: str | None) -> list[int]:
    stream = io.BytesIO()
    tifffile.imwrite(stream, np.array([[0, 100, 200, 300]], dtype), byteorder=">", compression=compression)
    return np.asarray(Image.open(io.BytesIO(stream.getvalue())))[0].tolist()


plain, compressed = read("int16", None), read("int16", "zlib")
print(f"Pillow {PIL.__version__}: plain {plain}, compressed {compressed}; unsigned {read('uint16', 'zlib')}")
swapped = np.array([0, 100, 200, 300], "<i2").byteswap().tolist()
sys.exit(0 if plain == [0, 100, 200, 300] and compressed == swapped and read("uint16", "zlib") == plain else 1)
PYTHON
