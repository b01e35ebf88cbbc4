"""A recipe in stages: one training after the other, each a run of its own that starts from the one before."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_ldm.core.config import apply_overrides, to_yaml, validate
from open_ldm.core.device import choose_machine
from open_ldm.core.distributed import join_world
from open_ldm.core.errors import CheckpointError, ConfigError, DiskError, OpenLdmError, exit_code_of
from open_ldm.model.checkpoint import PREFIX, CheckpointFolder
from open_ldm.runs.folder import RunFolder
from open_ldm.runs.history import read_history
from open_ldm.runs.recipe import NAME, Recipe, recipe_from
from open_ldm.runs.report.stages import write_stages_report
from open_ldm.runs.train import TrainingResult, require_same_recipe, train
from open_ldm.runs.transfer import settle, settled, settled_if_here


@dataclass(frozen=True)
class Stage:
    """One training of several: its name, its whole recipe, and the run folder it writes."""

    name: str
    recipe: Recipe
    folder: RunFolder

    @property
    def saved(self) -> int | None:
        """Samples seen when it last saved; None before it has."""
        newest = next(iter(CheckpointFolder(self.folder.checkpoints).names()), None)
        return None if newest is None else int(newest.removeprefix(PREFIX))

    @property
    def finished(self) -> bool:
        """Whether what it saved after its last sample is there and whole: the next stage must start from nothing older."""
        if self.saved is None or self.saved < self.recipe.training.samples:
            return False
        try:
            newest, problems = CheckpointFolder(self.folder.checkpoints).newest()
        except CheckpointError:
            return False  # training it will say so
        return newest is not None and not problems

    def starts_from(self, other: Stage) -> bool:
        """Whether its weights are those that another stage ends with."""
        return self.recipe.init_from is not None and self.recipe.init_from.source == str(other.folder.path)


def stages_of(recipe: Recipe, out: Path) -> list[Stage]:
    """The stages of a recipe that trains in `out`: each the recipe with the stage's settings laid over it, in out/stages/.

    All but the first start from the weights of the one before; `init_from` of a stage says how, or (null) that it does not.
    Raises ConfigError, naming the stage, for one that is no recipe.
    """
    whole = recipe.model_dump(mode="json", exclude={"stages"})
    stages: list[Stage] = []
    for number, given in enumerate(recipe.stages, start=1):
        settings = dict(given)
        if "stages" in settings:
            raise ConfigError(f"stage {number} has stages itself", fix="list them one after the other")
        name = _name_of(settings.pop("name", None), number, [stage.name for stage in stages])
        content = dict(whole)
        if stages:
            content["init_from"] = {"source": str(stages[-1].folder.path)}
        content = apply_overrides(content, [f"name={recipe.name}-{name}", *assignments(settings)])
        folder = RunFolder(RunFolder(out).stages / f"{number}-{name}")
        stages.append(Stage(name, validate(Recipe, content, source=f"stage {name}"), folder))
    return stages


def planned(stages: Sequence[Stage]) -> list[Recipe]:
    """Each stage's recipe, settled by the one before as that will be; none of them need have been trained.

    Raises ConfigError, naming the stage, for one that cannot start as it says.
    """
    done: list[tuple[Stage, Recipe]] = []
    for stage in stages:
        before = next((its_recipe for other, its_recipe in done if stage.starts_from(other)), None)
        with told_of(stage):
            done.append((stage, settled_if_here(stage.recipe)[0] if before is None else settled(stage.recipe, before)))
    return [its_recipe for _, its_recipe in done]


@contextmanager
def told_of(stage: Stage) -> Iterator[None]:
    """Name the stage in a ConfigError."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"stage {stage.name}: {error.problem}", needed=error.needed, fix=error.fix) from error


def assignments(settings: Mapping[str, Any], prefix: str = "") -> list[str]:
    """A part of a recipe as `a.b=c`, one for each single value or list; a `kind` comes before what depends on it."""
    found: list[str] = []
    for name in sorted(settings, key=lambda name: name != "kind"):
        value = settings[name]
        if isinstance(value, Mapping) and value:
            found += assignments(value, f"{prefix}{name}.")
        else:
            found.append(f"{prefix}{name}={json.dumps(value)}")  # JSON is YAML
    return found


def train_stages(recipe: Recipe, out: Path, *, silent: bool = False, command: Sequence[str] = ()) -> TrainingResult:
    """Train the stages of a recipe in their order, going on where the last command stopped.

    Raises as `train`; a stage that a signal stopped ends this too, with 75. exit.json says how the whole and each stage ended.
    """
    world = join_world(choose_machine(recipe.training.device, recipe.training.dtype, recipe.training.deterministic).device)
    stages, folder = stages_of(recipe, out), RunFolder(out)
    if CheckpointFolder(folder.checkpoints).names():
        raise ConfigError(f"{out} holds a run without stages", fix="choose another --out")
    names = [stage.folder.path.name for stage in stages]
    if others := [part.path.name for part in folder.parts if part is not folder and part.path.name not in names]:
        raise ConfigError(f"{out} was started with stage {others[0]}", needed=", ".join(names), fix="choose another --out")
    passed = _passed(stages)
    if all(stage.saved is None for stage in stages):
        planned(stages)  # what cannot follow is told before hours of training
    seconds, loss = 0.0, None
    with folder if world.leads else nullcontext():
        for stage in stages:
            if stage.saved is not None:
                with told_of(stage):
                    require_same_recipe(settle(stage.recipe, stage.folder)[0], stage.folder, recipe_from)
        if world.leads:  # only now: a refusal leaves the run as it was
            folder.write_config(to_yaml(recipe))
            folder.exit.unlink(missing_ok=True)
        whole = _Whole(folder, stages, passed, world.leads)
        for stage in stages:
            if stage in passed or stage.finished:
                continue
            try:
                result = train(stage.recipe, stage.folder.path, silent=silent, command=command)
            except BaseException as error:
                reason, fix = f"{type(error).__name__}: {error}", ""
                if isinstance(error, OpenLdmError):
                    reason, fix = error.problem, error.fix
                with suppress(DiskError):  # a full disk must not hide what went wrong first
                    whole.end(exit_code_of(error), f"stage {stage.name}: {reason}", fix)
                raise
            seconds, loss = seconds + result.seconds, result.loss
            if result.code:
                seen = whole.end(result.code, f"stopped in stage {stage.name} and saved", "run the same command again to go on")
                return TrainingResult(result.code, out, seen, seconds, loss)
            if world.leads:
                write_stages_report(out)
        return TrainingResult(0, out, whole.end(0, "all stages done"), seconds, loss)


@dataclass(frozen=True)
class _Whole:
    """A run in stages and how far each is. `leads`: whether this process writes."""

    folder: RunFolder
    stages: Sequence[Stage]
    passed: Sequence[Stage]
    leads: bool

    def end(self, code: int, reason: str, hint: str = "") -> int:
        """Say how the whole and each of its stages ended, in exit.json and the report. Returns the samples seen by all."""
        told = [self._told(stage) for stage in self.stages]
        seen = sum(int(each["samples_seen"]) for each in told)
        if self.leads:
            self.folder.write_exit(code, reason, seen, hint, stages=told)
            write_stages_report(self.folder.path)
        return seen

    def _told(self, stage: Stage) -> dict[str, Any]:
        history = read_history(stage.folder.path)
        gone = stage in self.passed and not history.events  # needed no more, and removed
        seen = stage.recipe.training.samples if gone else history.samples_seen
        word = "removed" if gone else history.state.word
        return {"name": stage.name, "samples_seen": seen, "samples": stage.recipe.training.samples, "state": word}


def _passed(stages: Sequence[Stage]) -> list[Stage]:
    """Stages whose weights another has taken over and saved, so that they are needed no more, there or not.

    Raises ConfigError for one that would now be trained for longer: what has started from it would not know.
    """
    passed: list[Stage] = []
    for stage in stages:
        heirs = [other for other in stages if other.saved is not None and other.starts_from(stage)]
        if heirs and stage.saved is not None and stage.saved < stage.recipe.training.samples:
            raise ConfigError(
                f"stage {stage.name} would go on from {stage.saved:,} to {stage.recipe.training.samples:,} samples,"
                f" but stage {heirs[0].name} has started from it",
                fix=f"stages.{stage.name}.training.samples={stage.saved}, or choose another --out",
            )
        passed += [stage] if heirs else []
    return passed


def _name_of(name: Any, number: int, taken: Sequence[str]) -> str:
    if not isinstance(name, str) or not re.fullmatch(NAME, name):
        raise ConfigError(f"stage {number} has name {name!r}", needed="a name of letters, digits, dots and dashes")
    if name in taken:
        raise ConfigError(f"two stages are named {name}", fix="give each a name of its own")
    return name
