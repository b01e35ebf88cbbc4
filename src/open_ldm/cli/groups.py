"""A command that has sub-commands beside its own argument: `ldm evaluate RUN` and `ldm evaluate fit-features DATA`."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

OWN = "RUN|FOLDER"
"""Name of the command that is meant when no sub-command is named; nothing a user would call a folder."""


class WithOwnCommand(TyperGroup):
    """Takes the first word as a sub-command where there is one of that name (a folder of that name is ./NAME), and hands all
    other words, options and --help to the command called `OWN`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the name of the own command before what is not a sub-command."""
        if not args or args[0] not in self.commands:
            args = [OWN, *(args or ["--help"])]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The own command says its usage under the group's name."""
        name, command, rest = super().resolve_command(ctx, args)
        return ("" if name == OWN else name), command, rest
