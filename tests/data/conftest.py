"""Pictures, shards and folders made for the tests of the data floor."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REAL_DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"


def make_image(height: int = 24, width: int = 32, seed: int = 0) -> Image.Image:
    """A colourful picture that differs from its mirror images and rotations."""
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = np.stack([rows * 255 // height, columns * 255 // width, (rows + 2 * columns + 40 * seed) % 256], axis=2)
    return Image.fromarray(pixels.astype(np.uint8))


def make_bytes(image: Image.Image | None = None, kind: str = "PNG", **options: object) -> bytes:
    """Encode a picture."""
    stream = io.BytesIO()
    (image or make_image()).save(stream, kind, **options)
    return stream.getvalue()


def make_tar(path: Path, members: Mapping[str, bytes] | list[tuple[str, bytes]]) -> Path:
    """Write a tar file with these members."""
    with tarfile.open(path, "w") as archive:
        for name, content in members.items() if isinstance(members, Mapping) else members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture(name="image")
def image_maker() -> Callable[..., Image.Image]:
    return make_image


@pytest.fixture(name="encode")
def encoder() -> Callable[..., bytes]:
    return make_bytes


@pytest.fixture(name="tar")
def tar_maker() -> Callable[..., Path]:
    return make_tar


@pytest.fixture(name="real_data")
def real_data_folder() -> Path:
    if not REAL_DATA.is_dir():
        pytest.skip("../shared/data is absent")
    return REAL_DATA


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
