"""The shape of sampled pictures: which of those that a model was trained on is asked for."""

from __future__ import annotations

import math
import re

from open_ldm.core.errors import ConfigError
from open_ldm.data.bucket_shapes import Shape, listed, nearest_ratio, require_trained
from open_ldm.runs.load import LoadedRun

_NEAR = 1.1
"""An aspect ratio may differ from that of the shape it stands for by this factor."""


def run_of_shape(run: LoadedRun, size: str | None, aspect: str | None) -> LoadedRun:
    """Return the run ready to sample pictures of a shape that it was trained on.

    Args:
        run: A loaded run.
        size: HEIGHTxWIDTH in pixels.
        aspect: WIDTH:HEIGHT; the shape whose ratio is nearest, where it is within a tenth.

    Returns:
        The run itself where neither is given.

    Raises:
        ConfigError: The model was trained on no such shape, the text cannot be read, or both were given.
    """
    if size is None and aspect is None:
        return run
    if size is not None and aspect is not None:
        raise ConfigError("--size and --aspect were given", needed="one of them", fix="leave --aspect out")
    shape = _of_size(run, size) if size is not None else _of_aspect(run, str(aspect))
    return run.of_shape(shape)


def _of_size(run: LoadedRun, size: str) -> Shape:
    numbers = re.fullmatch(r"(\d{1,6})x(\d{1,6})", size.lower())
    if numbers is None:
        raise ConfigError(f"--size {size!r} cannot be read", needed=f"HEIGHTxWIDTH in pixels: {listed(run.shapes)}")
    return require_trained((int(numbers[1]), int(numbers[2])), run.shapes)


def _of_aspect(run: LoadedRun, aspect: str) -> Shape:
    numbers = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?):(\d{1,6}(?:\.\d{1,6})?)", aspect)
    if numbers is None or min(float(numbers[1]), float(numbers[2])) == 0:
        raise ConfigError(f"--aspect {aspect!r} cannot be read", needed="WIDTH:HEIGHT, such as 2:1")
    ratio = float(numbers[1]) / float(numbers[2])
    shape = run.shapes[nearest_ratio(ratio, run.shapes)]
    if abs(math.log(ratio * shape[0] / shape[1])) > math.log(_NEAR):
        raise ConfigError(f"this model was trained on no shape near {aspect}", needed=f"--size out of {listed(run.shapes)}")
    return shape
