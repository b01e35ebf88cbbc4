"""Studies and speedruns keep the editions of the packaged recipes that they were begun with, for trainings to come too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from open_ldm.core.errors import ConfigError
from open_ldm.core.files import read_json_object
from open_ldm.run_folder.own_folder import require_own_folder
from open_ldm.runs.editions import earlier_edition, note_on_edition
from open_ldm.studies.study import Setting, Study, slug

STUDY = "study.json"
"""What a study has found; it tells which study a folder holds."""


def as_study_begun(study: Study, scale: str, out: Path) -> tuple[Study, list[str]]:
    """Choose the editions of a study's recipes: those of what was begun in its folder, where they are earlier ones.

    Args:
        study: As it is declared: a packaged recipe without an edition is the newest.
        scale: One of its scales.
        out: The folder of the study; it may be new.

    Returns:
        The study with NAME@K in the place of such recipes, and what the user should know of it, a line each.

    Raises:
        ConfigError: The study has no such scale.
    """
    trained: dict[str, list[Path]] = {}
    for setting in study.settings(scale):
        for recipe, run in _runs(setting, out / slug(setting.name)):
            trained.setdefault(recipe, []).append(run)
    begun = {recipe: edition for recipe, runs in trained.items() if (edition := earlier_edition(recipe, runs)) is not None}
    if not begun:
        return study, []
    named = {recipe: f"{recipe}@{edition}" for recipe, edition in begun.items()}
    scales = {name: [_at(each, named) if name == scale else each for each in given] for name, given in study.scales.items()}
    return replace(study, scales=scales), [note_on_edition(out, recipe, edition) for recipe, edition in begun.items()]


def require_folder_of(study: Study, scale: str, out: Path) -> None:
    """Refuse a folder that holds something else than this study at this scale.

    Args:
        study: As it is declared.
        scale: One of its scales.
        out: The folder of the study; it may be new.

    Raises:
        ConfigError: It holds another study, the same at another scale, a training run, or things of somebody else.
    """
    there = read_json_object(out / STUDY)
    same_scale = there.get("scale") == scale or not study.scales
    if "study" in there and not (there["study"] == study.name and same_scale):
        raise ConfigError(
            f"{out} holds study {there['study']} at scale {there.get('scale')}",
            needed=f"a folder of its own for {study.name} at scale {scale}",
            fix="choose another --out",
        )
    require_own_folder(out, "study", (STUDY, *(slug(setting.name) for setting in study.settings(scale))))


def _runs(setting: Setting, root: Path) -> Iterator[tuple[str, Path]]:
    """The recipe and the folder of every training of a setting that is there, with any number of seeds."""
    for name, source in setting.sources.items():
        yield from ((source.recipe, run) for run in root.glob(f"from-{slug(name)}-seed*"))
    for name in setting.arms:
        trained = setting.run_of(name)
        recipe = setting.arms[trained].recipe or setting.recipe
        yield from ((recipe, run) for run in root.glob(f"{slug(trained)}-seed*"))


def _at(setting: Setting, named: dict[str, str]) -> Setting:
    arms = {name: replace(arm, recipe=arm.recipe and named.get(arm.recipe, arm.recipe)) for name, arm in setting.arms.items()}
    sources = {name: replace(each, recipe=named.get(each.recipe, each.recipe)) for name, each in setting.sources.items()}
    return replace(setting, recipe=named.get(setting.recipe, setting.recipe), arms=arms, sources=sources)
