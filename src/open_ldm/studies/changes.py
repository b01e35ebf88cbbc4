"""What may be changed in all arms of a study at once: nothing in which they differ, and nothing that the study sets itself."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from open_ldm.core.config import flattened
from open_ldm.core.errors import ConfigError, cut
from open_ldm.core.overrides import is_within, last_given, settings_in
from open_ldm.runs.recipe import load_recipe
from open_ldm.studies.study import Setting, Study

_SET_BY_STUDIES = {
    "name": "leave it out",
    "training.seed": "leave it out, or give --seeds N for the seeds 0 to N - 1",
    "init_from": "leave it out",
}
_SET_FOR_POINTS = dict.fromkeys(("training.checkpoint_every_samples", "training.keep_checkpoints"), "leave it out")
_NO_DIFFERENCE = {"name", "edition", "preview", "parallel", "track"}
"""Settings that are not what arms are compared by, though their recipes may say different things."""
_NOTHING = "nothing"


@dataclass(frozen=True)
class _Training:
    """An arm or a pre-training as the study has it; `sampling`: how the arm is sampled, whatever its recipe says."""

    name: str
    recipe: str
    changes: tuple[str, ...]
    sampling: Mapping[str, Any] = field(default_factory=dict)

    def settings(self, more: Sequence[str] = ()) -> dict[str, str]:
        """Resolve its recipe with `more` changes: every setting by its dotted name, as JSON."""
        recipe = load_recipe(self.recipe, last_given([*self.changes, *more]))
        return _as_json(flattened(recipe.model_dump(mode="json", exclude=_NO_DIFFERENCE)))

    def sampled(self) -> dict[str, str]:
        """The settings of sampling that the study gives to the arm."""
        return _as_json(flattened(dict(self.sampling), "sampling"))


def require_arms_differ(study: Study, scale: str, overrides: Sequence[str]) -> None:
    """Refuse changes to all arms that would take away a difference between them, or that the study would replace.

    Args:
        study: The study.
        scale: One of its scales.
        overrides: Assignments `a.b=c`, which come after those of the arms.

    Raises:
        ConfigError: One changes a setting that the arms of a setting, and what they start from, do not have alike; or the study
            sets it itself; or it does not fit an arm.
    """
    if not overrides:
        return
    for setting in study.settings(scale):
        _require_left_to_study(setting, overrides)
        trainings = list(_trainings(setting))
        before = [training.settings() for training in trainings]
        after = [training.settings(overrides) for training in trainings]
        pairs = list(zip(before, after, strict=True))
        measured = [own | training.sampled() for training, own in zip(trainings, before, strict=True)]
        for name in dict.fromkeys(name for found in (*measured, *after) for name in found):
            values = {each.name: own.get(name, _NOTHING) for each, own in zip(trainings, measured, strict=True)}
            if len(set(values.values())) > 1 and any(old.get(name) != new.get(name) for old, new in pairs):
                raise _erased(setting, name, values, overrides)
        _require_sampled_otherwise(setting, overrides)


def _require_left_to_study(setting: Setting, overrides: Sequence[str]) -> None:
    set_by_study = _SET_BY_STUDIES | (_SET_FOR_POINTS if setting.protocol.points > 1 else {})
    for text in overrides:
        for name in settings_in(text):
            if own := next((own for own in set_by_study if is_within(name, own)), None):
                raise ConfigError(
                    f"{cut(text)} was given, and a study sets {own} of its trainings itself", fix=set_by_study[own]
                )


def _require_sampled_otherwise(setting: Setting, overrides: Sequence[str]) -> None:
    """Refuse settings of sampling in whose place the protocol has its own."""
    sampled = _as_json(flattened(dict(setting.protocol.sampling), "sampling"))
    for text in overrides:
        for name in settings_in(text):
            if own := next((own for own in sampled if is_within(name, own) or is_within(own, name)), None):
                raise ConfigError(
                    f"{cut(text)} was given, and this study samples with {own}={sampled[own]} whatever the recipe says",
                    fix="leave it out",
                )


def _trainings(setting: Setting) -> Iterator[_Training]:
    """The arms, and what they start from."""
    for name, arm in setting.arms.items():
        trained = setting.arms[setting.run_of(name)]
        yield _Training(name, trained.recipe or setting.recipe, (*setting.changes, *trained.changes), arm.sampling)
    for name, source in setting.sources.items():
        yield _Training(f"the start {name}", source.recipe, source.changes)


def _erased(setting: Setting, name: str, values: Mapping[str, str], overrides: Sequence[str]) -> ConfigError:
    """The error for a setting in which arms differ; `values`: arm -> its own, as JSON."""
    keys = {text: text.partition("=")[0].strip() for text in overrides}
    blamed = [text for text, key in keys.items() if is_within(name, key) or is_within(key, name)] or overrides
    one = next(iter(values))
    other = next(arm for arm in values if values[arm] != values[one])
    return ConfigError(
        f"{', '.join(map(cut, blamed))} would hold for all arms of {setting.name}, which differ in {name}:"
        f" {values[one]} in {one!r}, {values[other]} in {other!r}",
        fix="leave it out",
    )


def _as_json(settings: Mapping[str, Any]) -> dict[str, str]:
    return {name: json.dumps(value) for name, value in settings.items()}
