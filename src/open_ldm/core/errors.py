"""Errors a user can act on: each says what was given, what is needed and how to fix it, in one line."""

from __future__ import annotations

import difflib
import errno
import os
import re
import traceback
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T", bound=str)
LINE_LENGTH = 299
"""Characters of an error."""
GIVEN_LENGTH = 60
"""Characters of one thing that was given, in an error that would be too long with all of it."""
_SHORTER_LENGTH = 40
_LIST_LENGTH = 100
"""Characters of a list of names that is shown whole."""
_NEAREST = 5
_NAME_LENGTH = 30
_MOST_COMPARED = 200
"""Characters of a wrong name that are compared with the right ones, which takes time by their product."""
_LEAST = {"problem": 60, "needed": 100, "fix": 120}
"""Characters that a part of an error keeps, however long the others are; with the words between them they fill a line."""
_JOINERS = "\u200c\u200d"
"""Unprintable to Python, and yet parts of written words and signs."""


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
        """Return the message on one line of at most 299 characters: the problem, what is needed, how to fix it."""
        return error_line(self.problem, self.needed, self.fix)

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


class OutOfMemoryError(OpenLdmError):
    """The device, or the machine, has not enough memory for the training."""

    exit_code = 71


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
    def of(cls, what: str, error: Exception, *, fix: str = "check space and permissions") -> DiskError:
        """Return the error for something that the disk refused, e.g. `what` = "cannot write FILE"."""
        disk = (DiskFullError if is_full(error) else cls)(f"{what}: {getattr(error, 'strerror', None) or error}", fix=fix)
        disk.exit_code = 77 if isinstance(error, PermissionError) else 74
        return disk


class DiskFullError(DiskError):
    """The disk has no room left: a run goes on without saving, and tries again."""


_FULL = (errno.ENOSPC, *(getattr(errno, name) for name in ("EDQUOT",) if hasattr(errno, name)))


def is_full(error: BaseException) -> bool:
    """Return whether an error, of the disk or of safetensors, says that there is no room left."""
    said = any(f"os error {number})" in str(error) for number in _FULL)  # safetensors gives the number in words
    return isinstance(error, DiskFullError) or getattr(error, "errno", None) in _FULL or said


_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
"""What torch says where the memory of a device, of a POSIX system or of Windows does not do."""


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
            return 71 if any(said in str(error).lower() for said in _OUT_OF_MEMORY) else 70


def reason_and_fix(error: BaseException) -> tuple[str, str]:
    """Return the reason of an error, as exit.json gives it, and the fix where the error has one."""
    if isinstance(error, OpenLdmError):
        return error.problem, error.fix
    return f"{type(error).__name__}: {error}", ""


def escaped(text: str, keep: str = "") -> str:
    """Spell out every character that is no sign on paper, such as those that move a terminal's cursor or change its colours.

    Args:
        text: Any text, of a file's name, a label or a caption.
        keep: Characters that stay, such as a line break.
    """
    if text.isprintable():
        return text
    kept = keep + _JOINERS
    return "".join(
        sign if sign.isprintable() or sign in kept else sign.encode("unicode_escape").decode("ascii") for sign in text
    )


def cut(text: str, length: int = GIVEN_LENGTH) -> str:
    """Shorten a text in its middle to `length` characters, and escape what a terminal would obey."""
    text = escaped(text)
    if len(text) <= length:
        return text
    kept = length - 5
    return f"{text[: kept - kept // 2]} ... {text[len(text) - kept // 2 :]}"


def error_line(problem: str, needed: str = "", fix: str = "") -> str:
    """Join the parts of an error in one line. Where it would be too long, what was given is shortened in its middle.

    Args:
        problem: What was given, or what went wrong.
        needed: What is needed instead.
        fix: How to fix it.

    Returns:
        At most 299 printable characters. What is needed and the fix stay whole as long as 60 characters are left for the
        problem; beyond that 100 and 120 of them stay.
    """
    given = {"problem": problem, "needed": needed, "fix": fix}
    parts = {name: escaped(" ".join(text.split())) for name, text in given.items() if text.split()}

    def too_long() -> int:
        return len(_joined(parts)) - LINE_LENGTH

    whole = parts.get("problem", "")
    for length in (GIVEN_LENGTH, _SHORTER_LENGTH):
        if whole and too_long() > 0:
            parts["problem"] = _with_words_cut(whole, length)
    for name, least in _LEAST.items():
        if name in parts and (excess := too_long()) > 0:
            parts[name] = cut(parts[name], max(least, len(parts[name]) - excess))
    return _joined(parts)


def _with_words_cut(text: str, length: int) -> str:
    return re.sub(rf"\S{{{length + 1},}}", lambda word: cut(word[0], length), text)


def _joined(parts: Mapping[str, str]) -> str:
    return "; ".join(text if name == "problem" else f"{name}: {text}" for name, text in parts.items())


def nearest(given: str, possible: Iterable[str], *, listed_by: str = "") -> str:
    """Return what is needed in place of a wrong name: 'one of cat, ship (did you mean 'ship'?)'.

    Args:
        given: The wrong name.
        possible: The right ones; of many, the five nearest are named, and the others counted.
        listed_by: A command that lists them, to be named in place of a list too long for an error.
    """
    names = [str(name) for name in possible]
    wrong = given[:_MOST_COMPARED]
    folded = {name.casefold(): name for name in reversed(names)}
    close = [folded[each] for each in difflib.get_close_matches(wrong.casefold(), folded, n=_NEAREST, cutoff=0.6)]
    whole = len(names) <= _NEAREST or sum(len(name) + 2 for name in names) <= _LIST_LENGTH
    shown = names if whole else list(dict.fromkeys([*close, *names[:_NEAREST]]))[:_NEAREST]
    text = shortened([cut(name, _NAME_LENGTH) for name in shown])
    more = f", ... ({len(names) - len(shown):,} more)" if not whole else ""
    needed = f"one that `{listed_by}` lists" if listed_by else f"{'' if len(names) == 1 else 'one of '}{text}{more}"
    return f"{needed} (did you mean {cut(close[0], _NAME_LENGTH)!r}?)" if close else needed


def choice_of(option: str, given: str, possible: Sequence[T]) -> T:
    """Return `given` if it is one of `possible`. Raises ConfigError naming the nearest."""
    for one in possible:
        if given == one:
            return one
    raise ConfigError(f"{option} {given!r} is unknown", needed=nearest(given, possible))


def shortened(names: Iterable[str], limit: int = 24) -> str:
    """Join names by commas, cut after `limit` with a count of the rest."""
    listed = list(names)
    text = ", ".join(listed[:limit])
    return text if len(listed) <= limit else f"{text}, ... ({len(listed) - limit} more)"
