"""The captions of a sample in a shard: of its caption file, or of a value in its KEY.json."""

from __future__ import annotations

from typing import Any

from open_ldm.core.errors import DataError, OpenLdmError
from open_ldm.core.plain_data import parse_json
from open_ldm.data.columns import flat
from open_ldm.sources.captions import CaptionMode, captions_in, decode_text
from open_ldm.sources.metadata import captions_from

UNREADABLE = (ValueError, KeyError, TypeError, OpenLdmError)
"""What `read_captions` raises for captions that cannot be read."""


def read_captions(stored: bytes, column: str | None, mode: CaptionMode = "lines") -> tuple[str, ...]:
    """Read the captions in a member, without empty ones.

    Args:
        stored: The bytes of KEY.txt or KEY.caption, or of KEY.json.
        column: The name of the captions in KEY.json; None for a caption file.
        mode: How a caption file is read.

    Raises:
        UNREADABLE: There are captions which cannot be read.
    """
    text = decode_text(stored)
    if column is None:
        return captions_in(text, mode)
    content = parse_json(text, finite=False)
    return captions_from({**flat(content), **content}[column], "")


def has_caption(stored: bytes, column: str | None) -> bool:
    """Return whether a member holds a caption that is not empty; what cannot be read counts, and is named when it is read."""
    try:
        return bool(read_captions(stored, column))
    except UNREADABLE:
        return True


def is_caption(value: Any) -> bool:
    """Return the same of a value in KEY.json."""
    try:
        return bool(captions_from(value, ""))
    except DataError:
        return True
