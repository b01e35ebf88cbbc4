"""The public API is documented: what a name does, its arguments one by one, what it gives back."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any, get_args

import pytest

import open_ldm as ldm
from open_ldm.commands.choices import members_of
from open_ldm.controls import ControlConfig
from open_ldm.sampling.generate import SolverName
from open_ldm.sampling.time_grid import Spacing

FUNCTIONS = {name: getattr(ldm, name) for name in ldm.__all__ if inspect.isfunction(inspect.unwrap(getattr(ldm, name)))}
METHODS = {
    f"{kind.__name__}.{name}": member
    for kind in (ldm.Run, *ldm.Samples.__mro__[1::-1])
    for name, member in vars(kind).items()
    if not name.startswith("_") and inspect.isfunction(member)
}


def undocumented(function: Callable[..., Any]) -> list[str]:
    """Parameters that the docstring's Args do not name, and sections that are missing."""
    text = inspect.getdoc(function) or ""
    found = [
        name
        for name in inspect.signature(function).parameters
        if name not in ("self", "options")
        and not re.search(rf"^\s+(\w+, )*\*{{0,2}}{name}(, \w+)*( \(.*\))?:", text, re.MULTILINE)
    ]
    return found + [section for section in ("Returns:", "Raises:") if len(found) == 0 and section not in text]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_says_what_it_takes_gives_and_raises(name: str) -> None:
    assert len(FUNCTIONS) == 8
    assert undocumented(FUNCTIONS[name]) == []


@pytest.mark.parametrize("name", METHODS)
def test_a_method_has_a_docstring_that_names_its_arguments(name: str) -> None:
    text = inspect.getdoc(METHODS[name])
    assert text and [problem for problem in undocumented(METHODS[name]) if not problem.endswith(":")] == []


def test_the_lists_in_a_docstring_are_those_of_the_unions() -> None:
    text = inspect.getdoc(ldm.Run.sample) or ""
    assert re.search(rf"solver: {words(get_args(SolverName))}", text)
    assert re.search(rf"spacing: Of the steps: {words(get_args(Spacing))}", text)
    options = [control.option for control in members_of(ControlConfig)]
    named = {"COLUMN": "magnification"}  # a column of metadata is asked for by its own name
    assert set(re.findall(r"`(\w+)=", text)) == {named.get(option, option) for option in options} and len(options) == 8


def words(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + f" or {names[-1]}"


def test_the_check_sees_what_is_missing() -> None:
    def silent(path: str, count: int) -> None:
        """Do something.

        Args:
            path: Where.
        """

    assert undocumented(silent) == ["count"]
