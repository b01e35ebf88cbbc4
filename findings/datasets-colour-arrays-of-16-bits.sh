#!/usr/bin/env bash
# datasets and a colour array of uint16 in a column of images.
#
# Input: two uint16 arrays, (2, 2) and (2, 2, 3), of the values 0, 5000, 10000, ..., in a column of the type Image.
#
# Expected: the same values from both, or an error for the one that the format cannot hold; values scaled to 8 bits at worst.
#
# Seen (datasets 5.2.0, Pillow 13.0.0): the grey array keeps its 16 bits. The colour array comes back modulo 256: 0, 136, 16, 152,
# 32, ...: noise. There is a warning, "Downcasting array dtype uint16 to uint8 to be compatible with 'Pillow'", and no error.
#
# Exits with 0 while this behaviour is there, with 1 once it changes. No code of this project is used.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check datasets==5.2.0 pillow==13.0.0 numpy==2.4.6
export HF_HOME="$work/cache" HF_HUB_OFFLINE=1
"$work/venv/bin/python" - <<'PYTHON'
import sys
import warnings

import datasets
import numpy as np
import PIL

warnings.simplefilter("ignore")


def stored(*shape: int) -> tuple[np.ndarray, np.ndarray]:
    values = (np.arange(np.prod(shape)).reshape(shape) * 5000).astype(np.uint16)
    rows = datasets.Dataset.from_dict({"image": [values]}, features=datasets.Features({"image": datasets.Image()}))
    return values, np.asarray(rows[0]["image"])


grey, grey_back = stored(2, 2)
colour, colour_back = stored(2, 2, 3)
print(f"datasets {datasets.__version__}, Pillow {PIL.__version__}")
print(f"grey:   {grey.ravel().tolist()} -> {grey_back.ravel().tolist()}")
print(f"colour: {colour.ravel().tolist()} -> {colour_back.ravel().tolist()}")
sys.exit(0 if np.array_equal(grey, grey_back) and np.array_equal(colour % 256, colour_back) else 1)
PYTHON
