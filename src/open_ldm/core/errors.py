"""Errors a user can act on: each says what was given, what is needed and how to fix it, in one line."""

from __future__ import annotations

import difflib
import os
import traceback
from collections.abc import Iterable


class OpenLdmError(Exception):
    """A failure that the user can fix. `exit_code` is what the command line returns (reliability contract, 3.9)."""

    exit_code = 70

    def __init__(self, problem: str, *, needed: str = "", fix: str = "") -> None:
        self.problem = problem
        self.needed = needed
        self.fix = fix
        super().__init__(self.one_line())

    def one_line(self) -> str:
        """The whole message on one line: problem, what is needed, how to fix it."""
        parts = [self.problem]
        if self.needed:
            parts.append(f"needed: {self.needed}")
        if self.fix:
            parts.append(f"fix: {self.fix}")
        return " ".join("; ".join(parts).split())

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: the one line, or the whole traceback with LDM_DEBUG=1 (IPython calls this)."""
        if debugging():
            return traceback.format_exception(self)
        return [f"{type(self).__name__}: {self.one_line()}"]


def debugging() -> bool:
    """Whether LDM_DEBUG=1 asks for tracebacks."""
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
    """A stop signal came, and what was done so far is kept: the same command goes on."""

    exit_code = 75


class DiskError(OpenLdmError):
    """The disk refused a read or a write. Where permission is missing the exit code is 77."""

    exit_code = 74

    @classmethod
    def of(cls, what: str, error: OSError, *, fix: str = "check space and permissions") -> DiskError:
        """The error for `what` could not be done."""
        disk = cls(f"{what}: {error.strerror or error}", fix=fix)
        disk.exit_code = 77 if isinstance(error, PermissionError) else 74
        return disk


def exit_code_of(error: BaseException) -> int:
    """The exit code for any error: an OpenLdmError's own, else the one of its sort (reliability contract, 3.9)."""
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
    """The reason of an error, as exit.json says it, and the fix where the error knows one."""
    if isinstance(error, OpenLdmError):
        return error.problem, error.fix
    return f"{type(error).__name__}: {error}", ""


def nearest(given: str, possible: Iterable[str]) -> str:
    """'did you mean ...' for the closest of `possible`, or the list of what is possible."""
    names = [str(name) for name in possible]
    close = difflib.get_close_matches(given, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}? possible: {shortened(names)}"
    return f"possible: {shortened(names)}"


def shortened(names: Iterable[str], limit: int = 24) -> str:
    """Comma-separated names, cut after `limit` with a count of the rest."""
    listed = list(names)
    text = ", ".join(listed[:limit])
    return text if len(listed) <= limit else f"{text}, ... ({len(listed) - limit} more)"
