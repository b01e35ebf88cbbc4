"""Text files as people's editors save them, and the captions in them."""

from __future__ import annotations

import codecs
from typing import Literal

CaptionMode = Literal["lines", "whole"]
"""How a caption file is read: every line that is not empty is a caption of its own, or the whole file is one caption."""

NOT_UTF8 = "is not UTF-8; fix: save it as UTF-8"

_MARKS = ((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def decode_text(content: bytes) -> str:
    """Decode UTF-8, with its mark or without, or UTF-16 that begins with its mark. Raises UnicodeDecodeError."""
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8-sig")
    return content.decode(encoding)


def captions_in(text: str, mode: CaptionMode) -> tuple[str, ...]:
    """Return the captions of a file's text; in one of several lines, `whole` puts a blank where a line ends."""
    lines = tuple(line.strip() for line in text.splitlines() if line.strip())
    return lines if mode == "lines" or not lines else (" ".join(lines),)
