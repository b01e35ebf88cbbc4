"""Several values in one text field: separated by blanks, as on the command line, and in "quotes" where they have blanks."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable

from open_ldm.core.errors import ConfigError
from open_ldm.studio.limits import LIMITS

SEPARATED = 'separated by blanks, in "quotes" where one has blanks'

_PLAIN = re.compile(r'[^\s"\\]+')


def typed(values: Iterable[str]) -> str:
    """Return values as they are typed into one field."""
    return " ".join(value if _PLAIN.fullmatch(value) else _quoted(value) for value in values)


def values_in(text: str) -> list[str]:
    """Read the values that were typed into one field.

    Raises:
        ConfigError: A quote is not closed, or the text is too long.
    """
    if len(text) > LIMITS.text:
        raise ConfigError(f"{len(text):,} characters were typed", needed=f"at most {LIMITS.text:,}")
    words = shlex.shlex(text, posix=True)
    words.whitespace_split, words.commenters, words.quotes = True, "", '"'
    try:
        return list(words)
    except ValueError:
        raise ConfigError("a quote or a backslash at the end is open", needed=f"values {SEPARATED}") from None


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
