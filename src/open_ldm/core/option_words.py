"""Errors in the words of the command line, said for something that has arguments instead of options."""

from __future__ import annotations

import re
from collections.abc import Mapping

_OPTION = re.compile(r"(?<![\w-])--([a-z][a-z-]*)(?: (?=['\"\d\[]|[A-Z]+\b))?")


def options_as_arguments(text: str, names: Mapping[str, str]) -> str:
    """Return a sentence with arguments in the place of options: `--class 'ship'` is `classes='ship'`.

    Args:
        text: The sentence.
        names: Arguments that are called otherwise than their options.
    """

    def argument(option: re.Match[str]) -> str:
        name = names.get(option[1], option[1].replace("-", "_"))
        return f"{name}=" if option[0].endswith(" ") else name

    return _OPTION.sub(argument, text)
