"""Between the command line's functions and a program or notebook: errors in Python's words, and a process that lives on."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from open_ldm.core.errors import ConfigError, OpenLdmError
from open_ldm.core.signals import process_lives_on

P = ParamSpec("P")
T = TypeVar("T")

_OPTION = re.compile(r"(?<![\w-])--([a-z][a-z-]*)(?: (?=['\"\d\[]|[A-Z]+\b))?")
_ARGUMENTS = {"prompt": "prompts", "class": "classes", "extractor": "extractors", "control": "controls"}
"""Options that may be given several times, which Python takes as one sequence."""


def in_python(function: Callable[P, T]) -> Callable[P, T]:
    """Make a function fit for a notebook.

    Its errors name arguments (`classes='ship'`) where the command line's name options (`--class 'ship'`), and a second
    interrupt raises KeyboardInterrupt and leaves the kernel alive.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        """Call the function, and put its errors into the words of Python."""
        with process_lives_on():
            try:
                return function(*args, **kwargs)
            except OpenLdmError as error:
                error.problem, error.needed, error.fix = map(as_arguments, (error.problem, error.needed, error.fix))
                error.args = (error.one_line(),)
                raise

    return call


def as_folder(out: str | Path, name: str = "out") -> Path:
    """Return the path of a folder to write to. Raises ConfigError for an empty text, which would be the folder one is in."""
    if not str(out).strip() or out == "":
        raise ConfigError(f"{name}={out!r} is empty", needed="a folder", fix="leave it out, or name one")
    return Path(out).expanduser()


def as_arguments(text: str) -> str:
    """Return a sentence about command-line options as one about arguments: `--class 'ship'` becomes `classes='ship'`."""

    def argument(option: re.Match[str]) -> str:
        name = _ARGUMENTS.get(option[1], option[1].replace("-", "_"))
        return f"{name}=" if option[0].endswith(" ") else name

    return _OPTION.sub(argument, text)
