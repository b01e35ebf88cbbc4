"""`ldm train`: a recipe, with all its stages where it has some, in a run folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from open_ldm.run_folder.folder import is_run
from open_ldm.runs.context import TrainingResult
from open_ldm.runs.recipe import Recipe
from open_ldm.runs.stages import train_stages
from open_ldm.runs.train import train


def train_recipe(
    recipe: Recipe, out: Path, *, silent: bool = False, command: Sequence[str] = (), notes: Sequence[str] = ()
) -> TrainingResult:
    """Train a recipe in the folder `out`, going on where the run there stopped. `command`: what the run's records say it was.

    Raises as `runs.train.train`; `notes` as there.
    """
    return (train_stages if recipe.stages else train)(recipe, out, silent=silent, command=command, notes=notes)


def default_folder(given: str, name: str) -> Path:
    """Return runs/NAME, or the run folder itself when that is what was given."""
    path = Path(given)
    return path if is_run(path) else Path("runs") / name
