"""A picture of one's own to start sampling from: decoded as the run's training pictures are, and cut to its views."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from open_ldm.core.errors import ConfigError, DataError
from open_ldm.core.pictures import to_images
from open_ldm.data import pictures
from open_ldm.data.sample import BadPicture, printable
from open_ldm.data.transforms import CenterCrop, TransformConfig, transform
from open_ldm.runs.load import LoadedRun
from open_ldm.sampling.start import Start, check_strength
from open_ldm.sources.picture_files import PictureFilesConfig
from open_ldm.sources.shrunk import ShrunkConfig

STRENGTH = 0.6
"""How far a start picture is noised where nothing is said: most of its detail goes, and its composition stays."""
_MEGAPIXELS = 64.0


@dataclass(frozen=True, eq=False)
class StartPicture:
    """A view uint8 or uint16 [C, H, W] of a picture, and its latents [1, C, h, w]."""

    pixels: torch.Tensor
    latents: torch.Tensor


def read_start(run: LoadedRun, picture: Path | bytes) -> StartPicture:
    """Read a picture, cut its largest centred view, and encode it.

    Args:
        run: The model, which says how its pictures are read and how large views are.
        picture: A file, or its bytes.

    Raises:
        DataError: It is no picture of the kind that the run was trained on.
    """
    source = run.recipe.data.source
    files = source.of if isinstance(source, ShrunkConfig) else source
    try:
        decode = files.decode if isinstance(files, PictureFilesConfig) else partial(pictures.decode, max_megapixels=_MEGAPIXELS)
        decoded = decode(picture)
    except BadPicture as error:
        name = picture.name if isinstance(picture, Path) else "the picture"
        detail = f" ({error.detail})" if error.detail else ""
        raise DataError(f"{name} cannot be started from: {error.reason}{detail}", needed="a picture as in training") from error
    view = run.known.facts.view
    cut = TransformConfig(size_px=(view.height_px, view.width_px), crop=CenterCrop())
    pixels = transform(decoded, (decoded.shape[0], decoded.shape[1]), cut, 0, 0).pixels
    return StartPicture(pixels, run.generator.encode(to_images(pixels[None])))


def start_of(run: LoadedRun, picture: Path | bytes | None, strength: float | None) -> Start | None:
    """Return where sampling starts; None for noise. Raises ConfigError for a strength without picture or out of range."""
    if picture is None:
        if strength is not None:
            raise ConfigError("--strength has no effect without --start", fix="--start FILE, or leave it out")
        return None
    check_strength(STRENGTH if strength is None else strength)
    return Start(read_start(run, picture).latents, STRENGTH if strength is None else strength)


def start_record(picture: Path | bytes | None, start: Start | None) -> dict[str, Any] | None:
    """Return what samples.json says of the picture that was started from; None for noise."""
    if picture is None or start is None:
        return None
    content = picture if isinstance(picture, bytes) else pictures.read_bytes(picture)
    named = {} if isinstance(picture, bytes) else {"file": printable(picture.name)}
    return {**named, "sha256": hashlib.sha256(content).hexdigest(), "strength": start.strength}
