"""Errors a user can act on: each says what was given, what is needed and how to fix it, in one line."""

from __future__ import annotations

import difflib
import os
import traceback
from collections.abc import Iterable
from itertools import accumulate

_LIST_LENGTH = 160
"""Characters of a list of names in an error, which has at most 300."""


class OpenLdmError(Exception):
    """A failure that the user can fix.

    `exit_code` is what the command line returns (docs/reliability.md section 3.9). `of_all` is true of an error that every
    process of a run raises alike, so that none has to be told of it.

    Args:
        problem: What was given, or what went wrong.
        needed: What is needed instead.
        fix: How to fix it.
    """

    exit_code = 70
    of_all = False

    def __init__(self, problem: str, *, needed: str = "", fix: str = "") -> None:
        self.problem = problem
        self.needed = needed
        self.fix = fix
        super().__init__(self.one_line())

    def one_line(self) -> str:
        """Return the whole message on one line: the problem, what is needed, how to fix it."""
        parts = [self.problem]
        if self.needed:
            parts.append(f"needed: {self.needed}")
        if self.fix:
            parts.append(f"fix: {self.fix}")
        return " ".join("; ".join(parts).split())

    def _render_traceback_(self) -> list[str]:
        """Return what a notebook shows: the one line, or the whole traceback with LDM_DEBUG=1 (IPython calls this)."""
        if debugging():
            return traceback.format_exception(self)
        return [f"{type(self).__name__}: {self.one_line()}"]


def debugging() -> bool:
    """Return whether LDM_DEBUG=1 is set, which shows tracebacks."""
    return os.environ.get("LDM_DEBUG", "") not in ("", "0")


class ConfigError(OpenLdmError):
    """A recipe, an override or a command-line value that cannot be used."""

    exit_code = 2


class DataError(OpenLdmError):
    """Pictures, shards or captions that cannot be used, or too many bad ones."""

    exit_code = 65


class CheckpointError(OpenLdmError):
    """A checkpoint that is damaged, or none that verifies."""

    exit_code = 65


class NonFiniteError(OpenLdmError):
    """Loss or gradients stayed infinite or NaN beyond the budget."""

    exit_code = 70


class RunLockedError(OpenLdmError):
    """Another process is writing to the same run folder."""

    exit_code = 73


class StoppedError(OpenLdmError):
    """A stop signal came. What was done so far is kept, and the same command continues from there."""

    exit_code = 75


class DiskError(OpenLdmError):
    """The disk refused a read or a write. The exit code is 77 where a permission is missing."""

    exit_code = 74

    @classmethod
    def of(cls, what: str, error: OSError, *, fix: str = "check space and permissions") -> DiskError:
        """Return the error for something that the disk refused, e.g. `what` = "cannot write FILE"."""
        disk = cls(f"{what}: {error.strerror or error}", fix=fix)
        disk.exit_code = 77 if isinstance(error, PermissionError) else 74
        return disk


def exit_code_of(error: BaseException) -> int:
    """Return the exit code for any error: that of an OpenLdmError, else one by its type (docs/reliability.md section 3.9)."""
    match error:
        case OpenLdmError():
            return error.exit_code
        case KeyboardInterrupt():
            return 130
        case MemoryError():
            return 71
        case PermissionError():
            return 77
        case OSError():
            return 74
        case _:
            return 71 if "out of memory" in str(error).lower() else 70


def reason_and_fix(error: BaseException) -> tuple[str, str]:
    """Return the reason of an error, as exit.json gives it, and the fix where the error has one."""
    if isinstance(error, OpenLdmError):
        return error.problem, error.fix
    return f"{type(error).__name__}: {error}", ""


def nearest(given: str, possible: Iterable[str], *, listed_by: str = "") -> str:
    """Return what is needed in place of a wrong name: 'one of cat, ship (did you mean 'ship'?)'.

    Args:
        given: The wrong name.
        possible: The right ones.
        listed_by: A command that lists them, to be named in place of a list too long for an error.
    """
    names = [str(name) for name in possible]
    close = difflib.get_close_matches(given, names, n=1, cutoff=0.6)
    fitting = sum(1 for end in accumulate(len(name) + 2 for name in names) if end <= _LIST_LENGTH)
    listed = names[0] if len(names) == 1 else f"one of {shortened(names, max(1, fitting))}"
    needed = f"one that `{listed_by}` lists" if listed_by else listed
    return f"{needed} (did you mean {close[0]!r}?)" if close else needed


def shortened(names: Iterable[str], limit: int = 24) -> str:
    """Join names by commas, cut after `limit` with a count of the rest."""
    listed = list(names)
    text = ", ".join(listed[:limit])
    return text if len(listed) <= limit else f"{text}, ... ({len(listed) - limit} more)"
