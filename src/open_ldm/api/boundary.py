"""Between the command line's functions and a program or notebook: errors in Python's words, and a process that lives on."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from open_ldm.api.arguments import fitted
from open_ldm.core.errors import OpenLdmError
from open_ldm.core.option_words import options_as_arguments
from open_ldm.core.signals import process_lives_on

P = ParamSpec("P")
T = TypeVar("T")

_ARGUMENTS = {
    "prompt": "prompts",
    "class": "classes",
    "extractor": "extractors",
    "control": "controls",
    "size": "view",
    "aspect": "view",
}
"""Options that may be given several times, which Python takes as one sequence, and those of which it makes one argument."""

_SAID = {
    "run the same command": "make the same call",
    "the same command": "the same call",
    "run it again": "call it again",
    "--prompt, --prompts": "--prompt",
}
"""Whole phrases; both options of the last one are one argument."""


def in_python(function: Callable[P, T]) -> Callable[P, T]:
    """Make a function fit for a notebook.

    Its arguments are checked against its hints (api/arguments.py), its errors name arguments (`classes='ship'`) where the
    command line's name options (`--class 'ship'`), and a second interrupt raises KeyboardInterrupt and leaves the kernel alive.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        """Call the function, and put its errors into the words of Python."""
        with process_lives_on():
            try:
                given, named = fitted(function, args, kwargs)
                return function(*given, **named)
            except OpenLdmError as error:
                error.problem, error.needed, error.fix = map(as_arguments, (error.problem, error.needed, error.fix))
                error.args = (error.one_line(),)
                raise

    return call


def as_arguments(text: str) -> str:
    """Return a sentence for the command line as one for Python: `--class 'ship'` is `classes='ship'`, a command is a call."""
    for said, meant in _SAID.items():
        text = text.replace(said, meant)
    return options_as_arguments(text, _ARGUMENTS)
