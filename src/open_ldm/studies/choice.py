"""What of a study is run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from open_ldm.core.errors import ConfigError, nearest
from open_ldm.studies.study import Setting, Study


@dataclass(frozen=True)
class Choice:
    """What of a study to run.

    Attributes:
        only: Names of arms, and of settings such as 'photographs'; all arms, or settings, where none is named.
        seeds: Of training for each arm; None takes the setting's.
        overrides: Changes to every recipe.
        devices: Where arms train at the same time; none: one after the other, here.
    """

    only: tuple[str, ...] = ()
    seeds: int | None = None
    overrides: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()

    def takes(self, study: Study, setting: Setting, arm: str) -> bool:
        """Tell whether this arm of this setting is run."""
        settings = {each.name for of_scale in study.scales.values() for each in of_scale}
        arms = [name for name in self.only if name not in settings]
        chosen = [name for name in self.only if name in settings]
        return (not arms or arm in arms) and (not chosen or setting.name in chosen)


def require_known(study: Study, scale: str, only: Sequence[str]) -> None:
    """Refuse what names neither an arm nor a setting of this scale, or names that no arm meets together.

    Raises:
        ConfigError: There is such a name, or nothing would be run.
    """
    settings = study.settings(scale)
    if only and not settings:
        raise ConfigError(f"study {study.name} trains nothing, so --only has no effect", fix="leave it out")
    names = list(dict.fromkeys([*(each.name for each in settings), *(arm for each in settings for arm in each.arms)]))
    for name in only:
        if name not in names:
            raise ConfigError(
                f"study {study.name} has no arm or setting {name!r} at scale {scale}", needed=nearest(name, names)
            )
    choice = Choice(tuple(only))
    if settings and not any(choice.takes(study, each, arm) for each in settings for arm in each.arms):
        raise ConfigError(
            f"study {study.name}: no setting has what --only names: {', '.join(only)}", needed="arms of one setting"
        )
