"""A recipe in stages: one training after the other, each a run of its own that starts from the one before."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from open_ldm.checkpoints.checkpoint import CheckpointFolder
from open_ldm.checkpoints.names import samples_seen_of
from open_ldm.core.config import read_yaml, to_yaml, validate
from open_ldm.core.errors import CheckpointError, ConfigError, DiskError, exit_code_of, reason_and_fix
from open_ldm.core.overrides import apply_overrides, assignments
from open_ldm.run_folder.folder import RunFolder
from open_ldm.run_folder.history import read_history
from open_ldm.run_folder.recipe_schema import of_its_day
from open_ldm.run_folder.report.stages import write_stages_report
from open_ldm.runs.begun import begun_settings
from open_ldm.runs.context import TrainingResult
from open_ldm.runs.named import NAME
from open_ldm.runs.recipe import Recipe, recipe_from
from open_ldm.runs.starting import settle_for_folder, settle_if_present, settle_recipe, sized_settings
from open_ldm.runs.train import require_same_recipe, train
from open_ldm.sources.loader import DataConfig
from open_ldm.tracking import check_trackers
from open_ldm.training.parallel import world_of

_SCHEMA_OF_ORDERS = 3
"""Runs of an earlier recipe schema read their samples in global order (run_folder/recipe_schema.py)."""


@dataclass(frozen=True)
class Stage:
    """One training of several: its name, its whole recipe, and the run folder it writes to."""

    name: str
    recipe: Recipe
    folder: RunFolder

    @property
    def saved(self) -> int | None:
        """Samples seen when it last saved; None before it has."""
        newest = next(iter(CheckpointFolder(self.folder.checkpoints).names()), None)
        return None if newest is None else samples_seen_of(newest)

    @property
    def finished(self) -> bool:
        """Whether the checkpoint of its last sample is there and verifies: the next stage must start from nothing older."""
        if self.saved is None or self.saved < self.recipe.training.samples:
            return False
        try:
            newest, problems = CheckpointFolder(self.folder.checkpoints).newest()
        except CheckpointError:
            return False  # training the stage will raise this error
        return newest is not None and not problems

    def starts_from(self, other: Stage) -> bool:
        """Whether its weights are those that another stage ends with."""
        return self.recipe.init_from is not None and self.recipe.init_from.source == str(other.folder.path)


def build_stages(recipe: Recipe, out: Path) -> list[Stage]:
    """Build the stages of a recipe: each is the whole recipe with the stage's own settings laid over it.

    All but the first start from the weights of the one before; `init_from` of a stage says how, or (null) that it does not.

    Args:
        recipe: With stages, or without.
        out: Run folder of the whole; stages train in its subfolder `stages`.

    Returns:
        The stages in their order; none for a recipe without stages.

    Raises:
        ConfigError: A stage is no valid recipe; the error names it.
    """
    whole = recipe.model_dump(mode="json", exclude={"stages"})
    stages: list[Stage] = []
    for number, given in enumerate(recipe.stages, start=1):
        settings = dict(given)
        if "stages" in settings:
            raise ConfigError(f"stage {number} has stages itself", fix="list them one after the other")
        name = _checked_name(settings.pop("name", None), number, [stage.name for stage in stages])
        content = dict(whole)
        if stages:
            content["init_from"] = {"source": str(stages[-1].folder.path)}
        content = apply_overrides(content, [f"name={recipe.name}-{name}", *assignments(settings)], Recipe)
        folder = RunFolder(RunFolder(out).stages / f"{number}-{name}")
        stages.append(Stage(name, validate(Recipe, content, source=f"stage {name}"), folder))
    return stages


def plan_stages(stages: Sequence[Stage]) -> list[Recipe]:
    """Settle each stage's recipe by the one before it, as that will be; none of them need have been trained.

    Args:
        stages: What `build_stages` gave.

    Returns:
        Their recipes with nothing left open, in the same order.

    Raises:
        ConfigError: A stage cannot start as it says; the error names it.
    """
    done: list[tuple[Stage, Recipe]] = []
    for stage in stages:
        before = next((its_recipe for other, its_recipe in done if stage.starts_from(other)), None)
        with named_in_errors(stage):
            settled = (
                settle_if_present(stage.recipe)[0] if before is None else settle_recipe(stage.recipe, sized_settings(before))
            )
            done.append((stage, settled))
    return [its_recipe for _, its_recipe in done]


@contextmanager
def named_in_errors(stage: Stage) -> Iterator[None]:
    """Context manager that puts the name of a stage in front of a ConfigError."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"stage {stage.name}: {error.problem}", needed=error.needed, fix=error.fix) from error


def train_stages(
    recipe: Recipe, out: Path, *, silent: bool = False, command: Sequence[str] = (), notes: Sequence[str] = ()
) -> TrainingResult:
    """Train the stages of a recipe in their order, going on where the last command stopped.

    Args:
        recipe: With stages.
        out: Run folder of the whole; each stage has a run folder inside it.
        silent: No progress is shown.
        command: Command line, for the event log.
        notes: What the user should know of the recipe, one line each; the first stage that trains says it.

    Returns:
        How the whole ended; a stage that a signal stopped ends it too, with code 75.

    Raises:
        OpenLdmError: As `train`. exit.json says how the whole and each stage ended.
    """
    check_trackers(recipe.track)
    world, folder = world_of(recipe), RunFolder(out)
    recipe = _in_the_order_begun(recipe, out)
    stages = build_stages(recipe, out)
    with world.sharing_errors():
        _require_same_stages(stages, folder)
        superseded = _superseded(stages)
        if all(stage.saved is None for stage in stages):
            plan_stages(stages)  # stages that cannot follow are refused before hours of training
    seconds, loss = 0.0, None
    with world.sharing_errors(), folder if world.leads else nullcontext():
        world.require_shared(out)
        for stage in stages:
            if stage.saved is not None:
                with named_in_errors(stage):
                    require_same_recipe(settle_for_folder(stage.recipe, stage.folder)[0], stage.folder, recipe_from)
        whole = _Whole(recipe, folder, stages, superseded)
        world.everyone(whole.begin, "the first files of the run")  # only now: a refusal leaves the run as it was
        for stage in stages:
            if world.everyone(partial(_is_done, stage, superseded), f"stage {stage.name}"):
                continue
            with world.sharing_errors(partial(whole.failed, stage)):
                result = train(stage.recipe, stage.folder.path, silent=silent, command=command, notes=notes)
            seconds, loss, notes = seconds + result.seconds, result.loss, ()
            if result.code:
                seen = world.everyone(partial(whole.stopped, stage, result.code))
                return TrainingResult(result.code, out, seen, seconds, loss)
            world.everyone(partial(write_stages_report, out))
        return TrainingResult(0, out, world.everyone(partial(whole.end, 0, "all stages done")), seconds, loss)


def _in_the_order_begun(recipe: Recipe, out: Path) -> Recipe:
    """Give a recipe that leaves the order of its samples open that of the run in a folder, also for stages to come.

    The whole run's config.yaml says it, or, of a run from before there was a choice, the manifest of any stage.
    """
    folder = RunFolder(out)
    told = [begun for stage in build_stages(recipe, out) if (begun := begun_settings(stage.folder)) is not None]
    stored = [content for content, _ in told if content.get("recipe_schema", 1) < _SCHEMA_OF_ORDERS]
    with suppress(ConfigError):  # it may be edited by hand; whether it fits is looked at later
        stored += [read_yaml(folder.config)] if folder.config.is_file() else []
    orders = [of_its_day(content)["data"].get("order") for content in stored if isinstance(content.get("data"), Mapping)]
    order = next(filter(None, orders), None)
    if recipe.data.order is not None or order is None:
        return recipe
    data = validate(DataConfig, {**recipe.data.model_dump(mode="json"), "order": order}, source=str(folder.path))
    return recipe.model_copy(update={"data": data})


def _is_done(stage: Stage, superseded: Sequence[Stage]) -> bool:
    """Whether there is nothing left to do: one killed behind its last checkpoint has yet to write its report."""
    return stage in superseded or (stage.finished and stage.folder.report.is_file())


def _require_same_stages(stages: Sequence[Stage], folder: RunFolder) -> None:
    """Raise ConfigError for a folder that holds a run without stages, or with others."""
    if CheckpointFolder(folder.checkpoints).names():
        raise ConfigError(f"{folder.path} holds a run without stages", fix="choose another --out")
    names = [stage.folder.path.name for stage in stages]
    if others := [part.path.name for part in folder.parts if part is not folder and part.path.name not in names]:
        raise ConfigError(
            f"{folder.path} was started with stage {others[0]}", needed=", ".join(names), fix="choose another --out"
        )


@dataclass(frozen=True)
class _Whole:
    """A run in stages and how far each is; only one process writes this down."""

    recipe: Recipe
    folder: RunFolder
    stages: Sequence[Stage]
    superseded: Sequence[Stage]

    def begin(self) -> None:
        """Write down the recipe of the run, which has not ended."""
        self.folder.write_config(to_yaml(self.recipe))
        self.folder.exit.unlink(missing_ok=True)

    def stopped(self, stage: Stage, code: int) -> int:
        """Write down that the run stopped in a stage, and return the exit code."""
        return self.end(code, f"stopped in stage {stage.name} and saved", "run the same command again to go on")

    def failed(self, stage: Stage, error: BaseException) -> None:
        """Write down that the run failed in a stage."""
        reason, fix = reason_and_fix(error)
        with suppress(DiskError):  # a full disk must not hide what went wrong first
            self.end(exit_code_of(error), f"stage {stage.name}: {reason}", fix)

    def end(self, code: int, reason: str, hint: str = "") -> int:
        """Say how the whole and each of its stages ended, in exit.json and the report. Returns the samples seen by all."""
        states = [self._state(stage) for stage in self.stages]
        seen = sum(int(each["samples_seen"]) for each in states)
        self.folder.write_exit(code, reason, seen, hint, stages=states)
        write_stages_report(self.folder.path)
        return seen

    def _state(self, stage: Stage) -> dict[str, Any]:
        history = read_history(stage.folder.path)
        removed = stage in self.superseded and not history.events  # needed no more
        seen = stage.recipe.training.samples if removed else history.samples_seen
        word = "removed" if removed else history.state.word
        return {"name": stage.name, "samples_seen": seen, "samples": stage.recipe.training.samples, "state": word}


def _superseded(stages: Sequence[Stage]) -> list[Stage]:
    """Stages whose weights a later one has taken over and saved, so that they are needed no more, there or not.

    Raises ConfigError for one that would now be trained for longer: what has started from it would not know.
    """
    superseded: list[Stage] = []
    for stage in reversed(stages):  # what starts from one that is gone has taken over from it all the same
        successors = [
            other for other in stages if (other.saved is not None or other in superseded) and other.starts_from(stage)
        ]
        if successors and stage.saved is not None and stage.saved < stage.recipe.training.samples:
            raise ConfigError(
                f"stage {stage.name} would go on from {stage.saved:,} to {stage.recipe.training.samples:,} samples,"
                f" but stage {successors[0].name} has started from it",
                fix=f"set stages.{stage.name}.training.samples={stage.saved}, or choose another --out",
            )
        superseded += [stage] if successors else []
    return superseded


def _checked_name(name: Any, number: int, taken: Sequence[str]) -> str:
    if not isinstance(name, str) or not re.fullmatch(NAME, name):
        raise ConfigError(f"stage {number} has name {name!r}", needed="a name of letters, digits, dots and dashes")
    if name in taken:
        raise ConfigError(f"two stages are named {name}", fix="give each a name of its own")
    return name
