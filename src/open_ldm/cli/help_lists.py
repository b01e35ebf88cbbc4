"""Help texts that list metrics, controls, solvers and the like: the lists are read from the unions when help is shown."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand


class HelpWithLists(TyperCommand):
    """A command whose help texts may hold `{metrics}` or another name of `commands.choices.LISTS`.

    The unions load torch, so they are read only when the help of this command is shown.
    """

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help with every list filled in."""
        from open_ldm.commands.choices import LISTS

        for parameter in self.params:
            text = getattr(parameter, "help", None) or ""
            for name, words in LISTS.items():
                if f"{{{name}}}" in text:
                    text = text.replace(f"{{{name}}}", words())
                    parameter.help = text  # type: ignore[attr-defined]
        super().format_help(ctx, formatter)
