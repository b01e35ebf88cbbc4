"""Recipes that name trackers, and what trackers are told of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import SerializerFunctionWrapHandler, TypeAdapter, ValidationError, model_serializer

from open_ldm.core.errors import OpenLdmError
from open_ldm.core.later_settings import without_defaults
from open_ldm.run_folder.folder import RunFolder
from open_ldm.runs.begun import resolved_settings
from open_ldm.runs.training_recipe import TrainingRecipe
from open_ldm.tracking import TrackedRun, Trackers
from open_ldm.tracking.commit import git_commit
from open_ldm.tracking.feed import Feed
from open_ldm.tracking.sent import FILE
from open_ldm.training.settings import Parallel


class Tracked(Parallel):
    """Base of recipes whose curves may go elsewhere too; a recipe at the defaults is written as before there were any.

    Attributes:
        track: Trackers, by name or with their settings; none by default, since report.html needs none.
    """

    later_settings: ClassVar[tuple[str, ...]] = ("parallel", "track")
    track: Trackers = ()

    @model_serializer(mode="wrap")
    def _written(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_defaults(self, written(self), self.later_settings)


def tracked_run(recipe: TrainingRecipe, folder: Path, command: Sequence[str]) -> TrackedRun:
    """Return what trackers are told of a run. A stage is named after the whole run and itself."""
    path = folder.resolve()
    name = f"{path.parents[1].name}-{path.name}" if path.parent.name == "stages" else path.name
    content = recipe.model_dump(mode="json") if recipe.track else {}
    return TrackedRun(name, folder, "", content, git_commit() if recipe.track else "", tuple(command))


def send_evaluations(folder: Path) -> list[str]:
    """Send to the trackers of a run what was measured of it and not sent yet; nothing for a run without any.

    Args:
        folder: A run folder. One in which a training is at work is left alone: that sends the numbers when it ends.

    Returns:
        What went wrong, one line for each tracker.
    """
    if not (folder / FILE).is_file():
        return []
    problems: list[str] = []
    try:
        content = resolved_settings(folder) or {}
        trackers = TypeAdapter(Trackers).validate_python(content.get("track", ()))
        with RunFolder(folder):
            feed = Feed(trackers, folder, problems.append)
            feed.begin(TrackedRun(folder.resolve().name, folder, "", content))
            feed.end(0)
    except (OpenLdmError, ValidationError) as error:
        problems.append(f"the trackers of {folder} were not sent the numbers ({error})")
    return problems
