"""The models that the studio shows: those it was started with, by name. No name from a request becomes a path."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from open_ldm.checkpoints.checkpoint import FOR_SAMPLING, CheckpointFolder
from open_ldm.checkpoints.files import read_manifest
from open_ldm.checkpoints.names import is_checkpoint
from open_ldm.commands.compare import names_of
from open_ldm.core.device import DeviceName
from open_ldm.core.errors import CheckpointError, ConfigError, nearest
from open_ldm.model.knowledge import Knowledge
from open_ldm.run_folder.folder import RunFolder
from open_ldm.runs.begun import parsed
from open_ldm.runs.load import LoadedRun, load_run
from open_ldm.runs.recipe import Recipe, recipe_from
from open_ldm.studio.limits import LIMITS

DEMO_MODELS = ("entangled", "improved")
DEMO_BYTES = 4_000_000
"""That the demo's models may have together, as data of the package."""


@dataclass(frozen=True)
class ModelFacts:
    """What a checkpoint's manifest tells of a model, without its weights."""

    name: str
    recipe: Recipe
    known: Knowledge
    samples_seen: int
    path: Path

    @property
    def semantic(self) -> str:
        """What it is asked for: text, class or none."""
        return str(self.recipe.conditioning.semantic.kind)


class Models:
    """Runs by name, loaded when they are first sampled; the ones used last stay in memory.

    Args:
        paths: Run folders, or checkpoints in them.
        device: Where they are loaded.
        keep: How many stay in memory.
        names: What they are called; by default after their folders.

    Raises:
        ConfigError: The same run is given twice.
    """

    def __init__(
        self, paths: Sequence[Path], device: DeviceName = "auto", keep: int = LIMITS.loaded, names: Sequence[str] = ()
    ) -> None:
        named = zip(names or _names(paths), paths, strict=True)
        self.paths: Mapping[str, Path] = dict(named)
        self.device, self._keep = device, keep
        self._loaded: OrderedDict[str, tuple[Path, LoadedRun]] = OrderedDict()

    @property
    def names(self) -> list[str]:
        """Of all runs, those without a checkpoint too."""
        return list(self.paths)

    def path(self, name: str) -> Path:
        """Return where a run lies. Raises ConfigError for a name that the studio was not started with."""
        if name not in self.paths:
            raise ConfigError(f"there is no model {name!r}", needed=nearest(name, self.paths))
        return self.paths[name]

    def facts(self, name: str) -> ModelFacts | None:
        """Read what is known of a model; None where it has no checkpoint yet, or none that can be read."""
        found = newest_manifest(self.path(name))
        if found is None:
            return None
        checkpoint, content = found
        recipe = parsed(recipe_from, content["recipe"], f"{checkpoint.name}/MANIFEST.json")
        known = Knowledge.from_json(content)
        return ModelFacts(name, recipe, known, int(content["samples_seen"]), self.path(name))

    def playable(self) -> list[ModelFacts]:
        """Every model that can be sampled, in the order in which they were given."""
        return [facts for name in self.names if (facts := self.facts(name)) is not None]

    def load(self, name: str) -> LoadedRun:
        """Load a model, or take it from memory; anew where a newer checkpoint has been saved. Raises as `load_run`."""
        found = newest_manifest(self.path(name))
        newest = self.path(name) if found is None else found[0]
        if name not in self._loaded or self._loaded[name][0] != newest:
            self._loaded[name] = newest, load_run(self.path(name), self.device)
        self._loaded.move_to_end(name)
        while len(self._loaded) > self._keep:
            self._loaded.popitem(last=False)
        return self._loaded[name][1]


def newest_manifest(path: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the newest checkpoint of a run whose manifest can be read, and that; of its last stage that has one."""
    if is_checkpoint(path):
        candidates = [path]
    else:
        folders = [CheckpointFolder(part.checkpoints, required=FOR_SAMPLING) for part in reversed(RunFolder(path).parts)]
        candidates = [folder.root / name for folder in folders for name in folder.names()]
    for candidate in candidates:
        try:
            return candidate, read_manifest(candidate, FOR_SAMPLING)
        except CheckpointError:
            continue  # damaged, or being written; loading it says so
    return None


def demo_models() -> list[Path]:
    """Return the folders of the demo's two models that come with the package; an empty list where they do not."""
    root = Path(str(resources.files("open_ldm") / "demo_models"))
    found = [root / name for name in DEMO_MODELS]
    return found if all(newest_manifest(path) is not None for path in found) else []


def _names(paths: Sequence[Path]) -> list[str]:
    return names_of(paths) if len(paths) > 1 else [path.resolve().name for path in paths]
