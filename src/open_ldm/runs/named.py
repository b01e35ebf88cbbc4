"""Recipes have a name and an edition."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from open_ldm.runs.tracked import Tracked

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
"""What a recipe, or a stage of one, may be called: it also names a folder."""


class Named(Tracked):
    """Base of recipes with a name; one of the first edition is written as before there were any.

    Attributes:
        name: Also names the default run folder, runs/NAME.
        edition: Of the packaged recipe that it is or extends; a newer one has other settings under the same name. It decides no
            number itself.
    """

    later_settings: ClassVar[tuple[str, ...]] = (*Tracked.later_settings, "edition")
    name: str = Field(pattern=NAME)
    edition: int = Field(default=1, ge=1)

    @property
    def title(self) -> str:
        """The name, with the edition where it is not the first: 'demo, edition 2'."""
        return self.name if self.edition == 1 else f"{self.name}, edition {self.edition}"
