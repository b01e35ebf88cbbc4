"""An option that is given twice with different values: refused, where a parser would take the last one in silence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from open_ldm.cli.groups import OWN
from open_ldm.core.errors import ConfigError


def refuse_repeated(given: Sequence[str], named: str, command: Any) -> None:
    """Refuse two values for an option that takes one; the same value twice is none too many.

    Args:
        given: The whole command line behind `ldm`.
        named: The command that it begins with, such as `ldm data survey`.
        command: What that command is; a group's own command is meant where no sub-command is named.

    Raises:
        ConfigError: Two different values.
    """
    words = list(given[len(named.split()) - 1 :])
    command = getattr(command, "commands", {}).get(OWN, command)
    for option in _repeated(command, words):
        values = _values(words, {*option.opts, *option.secondary_opts}, takes_value=not option.is_flag)
        if len(set(values)) > 1:
            raise ConfigError(
                f"{option.opts[0]} is given {len(values)} times: {', '.join(values)}",
                needed="one value",
                fix="leave the others out",
            )


def _repeated(command: Any, words: list[str]) -> list[Any]:
    """Options that take one value and stand there more than once; none where the words fit no command, told later."""
    parser = command.make_parser(command.context_class(command))
    try:
        _, _, order = parser.parse_args(list(words))
    except Exception as error:
        if callable(getattr(error, "format_message", None)):
            return []
        raise
    times = Counter(id(param) for param in order)
    one_value = [
        param for param in command.params if param.param_type_name == "option" and not param.multiple and not param.count
    ]
    return [param for param in one_value if times[id(param)] > 1]


def _values(words: Sequence[str], names: set[str], *, takes_value: bool) -> list[str]:
    """What stands behind each of an option's names; of a flag the names themselves."""
    found = []
    for number, word in enumerate(words):
        name, equals, value = word.partition("=")
        if word == "--":
            break
        if name in names:
            found.append((value if equals else "".join(words[number + 1 : number + 2])) if takes_value else word)
    return found
