"""Settings of a recipe in stages that no stage takes, since each states its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from open_ldm.core.errors import ConfigError, cut
from open_ldm.core.overrides import assignments, is_within, settings_in


def require_taken(stages: Sequence[Mapping[str, Any]], overrides: Sequence[str]) -> None:
    """Refuse a change to the whole recipe that every stage would replace by what it states itself.

    Args:
        stages: Of the recipe, each with its `name` and the settings that it changes.
        overrides: Assignments `a.b=c`; those of a stage begin with `stages`.

    Raises:
        ConfigError: Every stage sets what one of them sets, or what is around it; the fix names the setting of a stage.
    """
    own = [[line.partition("=")[0] for line in assignments({**stage, "name": None})] for stage in stages]
    for text in overrides if own else ():
        for name in settings_in(text):
            if name != "name" and all(any(is_within(name, stated) for stated in lines) for lines in own):
                names = [str(stage.get("name")) for stage in stages]
                value = text.partition("=")[2] if name == text.partition("=")[0].strip() else "..."
                raise ConfigError(
                    f"{name} is set by every stage, and {cut(text)} changes it in none",
                    fix=f"stages.{names[0]}.{name}={cut(value)}" + (f" (stages: {', '.join(names)})" if names[1:] else ""),
                )
