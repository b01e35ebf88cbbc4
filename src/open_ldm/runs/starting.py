"""Starting a run from another: opening it, settling what the recipe leaves open, taking over its weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from open_ldm.checkpoints.checkpoint import CheckpointFolder
from open_ldm.core.errors import ConfigError
from open_ldm.core.plain_data import parse_json
from open_ldm.model.alignment import ALIGNMENT
from open_ldm.model.diffusion import DiffusionModel
from open_ldm.model.knowledge import Knowledge
from open_ldm.run_folder.folder import RunFolder
from open_ldm.run_folder.recipe_schema import begun_clocks, begun_order
from open_ldm.runs.autoencoder_format import begun_format
from open_ldm.runs.begun import begun_settings, parsed
from open_ldm.runs.load import load_run_checkpoint
from open_ldm.runs.recipe import Recipe, recipe_from
from open_ldm.training.parallel import whole_tensors
from open_ldm.training.state import TrainState
from open_ldm.transfer_learning.settings import InitFromConfig
from open_ldm.transfer_learning.settle import SizedSettings, settle, settle_as_before
from open_ldm.transfer_learning.start import Started, StartingPoint, TrainedSettings, start


def load_starting_point(config: InitFromConfig) -> StartingPoint:
    """Read the run that `init_from` names.

    Args:
        config: Names a run folder or one checkpoint in it, and which of its weights are wanted.

    Returns:
        Its settings and its weights, on the CPU.

    Raises:
        ConfigError: There is no such run, or it holds no such weights.
        CheckpointError: It is damaged.
    """
    group = "ema" if config.weights == "averaged" else "model"
    path = Path(config.source).expanduser()
    checkpoint, problems = load_run_checkpoint(path, group)
    recipe = parsed(recipe_from, checkpoint.content["recipe"], f"{checkpoint.path.name}/MANIFEST.json")
    settings = trained_settings(recipe, Knowledge.from_json(checkpoint.content))
    if not any(name.startswith(ALIGNMENT) for name in checkpoint.files[group]):  # weights alone, as they sample
        settings = replace(settings, spec=replace(settings.spec, alignment=None))
    return StartingPoint(
        path=path,
        checkpoint=checkpoint.path.name,
        samples_seen=int(checkpoint.content["samples_seen"]),
        settings=settings,
        tensors=checkpoint.files[group],
        sha256=str(checkpoint.content["files"][group]["sha256"]),
        problems=tuple(problems),
    )


def trained_settings(recipe: Recipe, known: Knowledge) -> TrainedSettings:
    """The settings of a recipe that decide what its model's weights mean, with what was learned of its data."""
    spec = recipe.trained_spec(known.facts)
    return TrainedSettings(spec, recipe.autoencoder, recipe.objective, recipe.data.transform, known.stats)


def sized_settings(recipe: Recipe) -> SizedSettings:
    """The settings of a recipe that depend on the size of its pictures."""
    return SizedSettings(recipe.process, recipe.denoiser, recipe.data.transform.size_px, recipe.latent_shape[1:])


def settle_recipe(recipe: Recipe, source: SizedSettings) -> Recipe:
    """Fill in the positions and the noise schedule that a recipe leaves open, by the run it starts from; errors as `settle`."""
    return _with_sized(recipe, settle(sized_settings(recipe), source, _init_of(recipe)))


def settle_if_present(recipe: Recipe) -> tuple[Recipe, StartingPoint | None]:
    """Settle a recipe by the run that it starts from, where that is on this machine.

    Returns:
        The settled recipe and that run; the recipe as it stands and None without one at hand.
    """
    if recipe.init_from is None or not Path(recipe.init_from.source).expanduser().exists():
        return recipe, None
    source = load_starting_point(recipe.init_from)
    return settle_recipe(recipe, source.settings.sized), source


def settle_for_folder(recipe: Recipe, folder: RunFolder) -> tuple[Recipe, StartingPoint | None]:
    """Settle a recipe that trains in a run folder; a run that has saved once needs what it started from no more.

    Args:
        recipe: As it was given.
        folder: Where it trains; it may hold a run that goes on.

    Returns:
        The recipe with nothing left open, and what it starts from: None where it starts from random numbers, or goes on.

    Raises:
        ConfigError: The folder's run was started from other weights, or is itself what the recipe starts from.
    """
    if (begun := begun_settings(folder)) is not None:
        before = parsed(recipe_from, *begun)
        format_kept = begun_format(recipe.autoencoder, before.autoencoder)
        recipe = recipe.model_copy(update={"data": begun_order(recipe.data, before.data), "autoencoder": format_kept})
        if "recipe_schema" not in begun[0]:
            clocks = begun_clocks(recipe.conditioning, before.conditioning)
            recipe = recipe.model_copy(update={"conditioning": clocks})
        _require_same_source(recipe.init_from, before.init_from, folder)
        if recipe.init_from is None:
            return recipe, None
        return _with_sized(recipe, settle_as_before(sized_settings(recipe), sized_settings(before))), None
    if recipe.init_from is None:
        return recipe, None
    source = load_starting_point(recipe.init_from)
    return settle_recipe(recipe, source.settings.sized), source


def start_from(source: StartingPoint, recipe: Recipe, known: Knowledge, state: TrainState[DiffusionModel]) -> Started:
    """Give a new run's model and its average the weights they start with.

    Args:
        source: What the run starts from.
        recipe: The run's, settled.
        known: What was learned of its data.
        state: Freshly built; its weights are replaced.

    Returns:
        How the run began.

    Raises:
        ConfigError: A tensor that should carry over does not.
    """
    fresh = {name: tensor.detach().cpu() for name, tensor in whole_tensors(state.model.state_dict()).items()}
    carried, started = start(trained_settings(recipe, known), source, fresh, _init_of(recipe))
    state.start_with(carried.tensors)
    return started


def _with_sized(recipe: Recipe, sized: SizedSettings) -> Recipe:
    return recipe.model_copy(update={"process": sized.process, "denoiser": sized.denoiser})


def _init_of(recipe: Recipe) -> InitFromConfig:
    assert recipe.init_from is not None
    return recipe.init_from


def _require_same_source(now: InitFromConfig | None, before: InitFromConfig | None, folder: RunFolder) -> None:
    """Another path is no harm when the same weights lie there."""
    if now is not None and folder.path.resolve() in (path := Path(now.source).expanduser().resolve(), *path.parents):
        raise ConfigError(
            f"run folder {folder.path} cannot start from itself",
            needed="a folder of its own for the new run",
            fix="choose another --out",
        )
    if now is None or before is None:
        if now is not before:
            was, would = ("nothing" if each is None else each.source for each in (before, now))
            setting = "init_from=null" if before is None else f"init_from.source={before.source}"
            raise ConfigError(
                f"run folder {folder.path} was started from {was}, not from {would}",
                fix=f"set {setting} to go on with it, or choose another --out",
            )
        return
    if now.source == before.source or _is_removed_stage(now, before, folder):
        return
    try:
        known = parse_json(folder.transfer.read_text())["source"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        known = None
    if known is None or not path.exists() or load_starting_point(now).sha256 != known:
        raise ConfigError(
            f"run folder {folder.path} was started from {before.source}, not from {now.source}",
            fix="leave the change out, or choose another --out",
        )


def _is_removed_stage(now: InitFromConfig, before: InitFromConfig, folder: RunFolder) -> bool:
    """Whether both name the stage before this one, which is gone, of a run in stages that has moved or is named otherwise.

    Its weights can be compared no more, and the stage here has taken them over; a run in stages refuses other stages itself.
    """
    stage, named = Path(now.source).expanduser().resolve(), Path(before.source)
    stages = RunFolder(folder.path.resolve().parent.parent).stages
    if stage.parent != stages or (named.parent.name, named.name) != (stages.name, stage.name):
        return False
    return not CheckpointFolder(RunFolder(stage).checkpoints).names()
