"""The formats of picture files: which are read here, by suffix and by first bytes, and what is said of the others."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from pathlib import PurePosixPath

from PIL import features

from open_ldm.core.extras import DISTRIBUTION, need
from open_ldm.data.sample import printable

_ALWAYS = {
    "JPEG": (".jpg", ".jpeg", ".jfif", ".jpe"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
}
_OF_SOME_BUILDS = {"AVIF": ("avif", (".avif",)), "JPEG2000": ("jpg_2000", (".jp2", ".j2k", ".jpf", ".jpx"))}
_HEIF = (".heic", ".heif", ".hif")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_MOST_NAMED = 6


@lru_cache(maxsize=1)
def suffixes() -> tuple[str, ...]:
    """Return the suffixes of pictures that are read here, in lower case: Pillow's build and the extra [data] decide."""
    built = [known for feature, known in _OF_SOME_BUILDS.values() if features.check(feature)]
    heif = [_HEIF] if importlib.util.find_spec("pillow_heif") is not None else []
    return tuple(suffix for known in (*_ALWAYS.values(), *built, *heif) for suffix in known)


def formats_for(start: bytes) -> tuple[str, ...]:
    """Return Pillow's names of the formats that may be read from a file with these first 12 bytes.

    Raises:
        MissingExtraError: It is HEIC, and pillow-heif is not installed.
    """
    if start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS:
        _register_heif()
        return (*_readable(), "HEIF")
    return _readable()


@lru_cache(maxsize=1)
def _readable() -> tuple[str, ...]:
    return (*_ALWAYS, *(name for name, (feature, _) in _OF_SOME_BUILDS.items() if features.check(feature)))


@lru_cache(maxsize=1)
def _register_heif() -> None:
    need("pillow_heif", extra="data").register_heif_opener(thumbnails=False)


def unread_words(names: Iterable[str]) -> str:
    """Count files that are not read by suffix, with what would read them: '.heic 3 (install open-ldm[data]), .xmp 2'."""
    return counted_suffixes(Counter(PurePosixPath(name).suffix.lower() for name in names))


def counted_suffixes(counts: Counter[str]) -> str:
    """As `unread_words`, of counts by suffix."""
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    listed = [f"{suffix or 'no suffix'} {count:,}{_help_with(suffix)}" for suffix, count in most[:_MOST_NAMED]]
    return printable(", ".join(listed)) + (", ..." if len(most) > _MOST_NAMED else "")


def _help_with(suffix: str) -> str:
    if suffix in suffixes():
        return ""
    if suffix in _HEIF:
        return f" (install {DISTRIBUTION}[data])"
    return " (this Pillow was built without it)" if any(suffix in known for _, known in _OF_SOME_BUILDS.values()) else ""
