"""Starting a run from another: what its recipe leaves open, the weights, and the receipt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from open_ldm.core.config import flattened, read_yaml
from open_ldm.core.errors import ConfigError
from open_ldm.denoisers.base import TransformerConfig
from open_ldm.denoisers.blocks.embeddings import patches_of
from open_ldm.denoisers.blocks.positions import GridPositions, PositionsConfig, positions_on
from open_ldm.model.checkpoint import CheckpointFolder
from open_ldm.process.resolution import ResolutionConfig, area
from open_ldm.runs.build import Knowledge
from open_ldm.runs.folder import RunFolder
from open_ldm.runs.load import checkpoint_of, knowledge_from_json
from open_ldm.runs.recipe import Recipe, recipe_from
from open_ldm.training.trainer import Trainer
from open_ldm.transfer.carry import Carried, carry
from open_ldm.transfer.expected import skeleton
from open_ldm.transfer.receipt import Receipt, as_text
from open_ldm.transfer.settings import InitFromConfig

_COMPARED = ("autoencoder", "conditioning", "process", "objective", "denoiser")


@dataclass(frozen=True)
class StartingPoint:
    """The run that another starts from: its settings, and the tensors of one set of its weights."""

    path: Path
    checkpoint: str
    samples_seen: int
    recipe: Recipe
    known: Knowledge
    tensors: Mapping[str, Tensor]
    sha256: str
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Started:
    """How a run began: from where, under which other settings (name: there, here), and the receipt."""

    source: StartingPoint
    weights: str
    settings: Mapping[str, tuple[Any, Any]]
    receipt: Receipt

    def sentence(self) -> str:
        """Where it started, and how much was taken over."""
        point = f"{self.source.path} ({self.source.checkpoint}, {self.weights} weights)"
        return f"starts from {point}: {self.receipt.sentence()}"

    def text(self) -> str:
        """The receipt as a table, the settings that differ, and the sentence."""
        settings = [f"{name}: {_said(there)} there, {_said(here)} here" for name, (there, here) in self.settings.items()]
        return "\n".join([as_text(self.receipt.rows()), *settings, self.sentence()])

    def to_json(self) -> dict[str, Any]:
        """The content of transfer.json."""
        source = {
            "path": str(self.source.path),
            "checkpoint": self.source.checkpoint,
            "samples_seen_there": self.source.samples_seen,
            "weights": self.weights,
            "sha256": self.source.sha256,
        }
        settings = {name: list(both) for name, both in self.settings.items()}
        return {"source": source, "settings": settings, **self.receipt.to_json()}


def open_start(config: InitFromConfig) -> StartingPoint:
    """Read the run that `init_from` names. Raises ConfigError when there is none, CheckpointError when it is damaged."""
    group = "ema" if config.weights == "averaged" else "model"
    path = Path(config.source).expanduser()
    checkpoint, problems = checkpoint_of(path, group)
    return StartingPoint(
        path=path,
        checkpoint=checkpoint.path.name,
        samples_seen=int(checkpoint.content["samples_seen"]),
        recipe=recipe_from(checkpoint.content["recipe"], (), source=f"{checkpoint.path.name}/MANIFEST.json"),
        known=knowledge_from_json(checkpoint.content),
        tensors=checkpoint.files[group],
        sha256=str(checkpoint.content["files"][group]["sha256"]),
        problems=tuple(problems),
    )


def settled(recipe: Recipe, source: Recipe) -> Recipe:
    """The recipe with the positions and the noise schedule that follow from its source's, where it leaves them open.

    Raises ConfigError where it states others.
    """
    init = _init_of(recipe)
    changes: dict[str, Any] = {
        "process": recipe.process.model_copy(update={"resolution": _resolution(recipe, source)}),
    }
    there, here = source.denoiser, recipe.denoiser
    if isinstance(there, TransformerConfig) and isinstance(here, TransformerConfig):
        grids = patches_of(source.latent_shape[1:], there.patch), patches_of(recipe.latent_shape[1:], here.patch)
        positions = positions_on(there.positions, *grids, init.positions)
        _require_open("denoiser.positions", here.positions, positions, (GridPositions(), there.positions))
        changes["denoiser"] = here.model_copy(update={"positions": positions})
    return recipe.model_copy(update=changes)


def settled_if_here(recipe: Recipe) -> tuple[Recipe, StartingPoint | None]:
    """The recipe settled by the run that it starts from, and that run; as it stands, and None, without one at hand."""
    if recipe.init_from is None or not Path(recipe.init_from.source).expanduser().exists():
        return recipe, None
    source = open_start(recipe.init_from)
    return settled(recipe, source.recipe), source


def settle(recipe: Recipe, folder: RunFolder) -> tuple[Recipe, StartingPoint | None]:
    """The recipe with nothing left open, and what it starts from. A run that has saved once needs its source no more.

    Raises ConfigError when the folder's run was started from other weights, or is itself what the recipe starts from.
    """
    if CheckpointFolder(folder.checkpoints).names() and folder.config.is_file():
        before = recipe_from(read_yaml(folder.config), (), source=str(folder.config))
        _require_same_source(recipe.init_from, before.init_from, folder)
        return (recipe if recipe.init_from is None else _as_before(recipe, before)), None
    if recipe.init_from is None:
        return recipe, None
    source = open_start(recipe.init_from)
    return settled(recipe, source.recipe), source


def begin_from(source: StartingPoint, recipe: Recipe, known: Knowledge, trainer: Trainer) -> Started:
    """Give a trainer's model and its average the weights they start with."""
    fresh = {name: tensor.detach().cpu() for name, tensor in trainer.model.state_dict().items()}
    carried, started = start(recipe, known, source, fresh)
    for module in (trainer.model, trainer.ema.model):
        module.load_state_dict(carried.tensors)
    return started


def without_numbers(recipe: Recipe, known: Knowledge, source: StartingPoint) -> Started:
    """How a run would begin, without building its model."""
    fresh = skeleton(recipe.model_spec(known.facts)).state_dict()
    there = replace(source, tensors={name: tensor.to("meta") for name, tensor in source.tensors.items()})
    return start(recipe, known, there, fresh)[1]


def start(recipe: Recipe, known: Knowledge, source: StartingPoint, fresh: Mapping[str, Tensor]) -> tuple[Carried, Started]:
    """What the recipe's model starts with instead of `fresh`, and how that came about. `recipe` must be settled."""
    init = _init_of(recipe)
    there = source.recipe.model_spec(source.known.facts)
    carried = carry(there, source.tensors, recipe.model_spec(known.facts), fresh, init)
    before, now = (_compared(*each) for each in ((source.recipe, source.known), (recipe, known)))
    settings = {name: (before.get(name), now.get(name)) for name in {**before, **now} if before.get(name) != now.get(name)}
    return carried, Started(source, init.weights, settings, carried.receipt)


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
            start = "init_from=null" if before is None else f"init_from.source={before.source}"
            raise ConfigError(
                f"run folder {folder.path} was started from {was}, not from {would}",
                fix=f"{start} to go on with it, or choose another --out",
            )
        return
    if now.source == before.source:
        return
    try:
        known = json.loads(folder.transfer.read_text())["source"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        known = None
    if known is None or open_start(now).sha256 != known:
        raise ConfigError(
            f"run folder {folder.path} was started from {before.source}, not from {now.source}",
            fix="leave the change out, or choose another --out",
        )


def _as_before(recipe: Recipe, before: Recipe) -> Recipe:
    """The recipe with the positions and the schedule that its run settled on, where it leaves them open."""
    changes: dict[str, Any] = {}
    if recipe.process.resolution is None:
        changes["process"] = recipe.process.model_copy(update={"resolution": before.process.resolution})
    there, here = before.denoiser, recipe.denoiser
    if not (isinstance(there, TransformerConfig) and isinstance(here, TransformerConfig)):
        return recipe.model_copy(update=changes)
    if _may_be_open(here.positions, there.positions):
        changes["denoiser"] = here.model_copy(update={"positions": there.positions})
    return recipe.model_copy(update=changes)


def _may_be_open(stated: PositionsConfig, settled_on: PositionsConfig) -> bool:
    """Whether a recipe that states these positions may be the one that was settled on those: it left them open, or stated its
    source's, which can be told from what they became."""
    if stated in (GridPositions(), settled_on, getattr(settled_on, "of", None)):
        return True
    return stated.kind == settled_on.kind and stated.kind in ("grid", "stored")


def _resolution(recipe: Recipe, source: Recipe) -> ResolutionConfig | None:
    """The shift of the noise schedule: from the size at which the source's was as it stands to this one."""
    there, here, own = source.process.resolution, recipe.data.transform.size_px, recipe.process.resolution
    if not _init_of(recipe).rescale_noise:
        return own or _moved(there, here)
    origin = source.data.transform.size_px if there is None else there.from_px
    if (factors := [_factor(each) for each in (source, recipe)]) and factors[0] != factors[1]:
        raise ConfigError(
            f"the autoencoder shrinks pictures {factors[1]} times, the source's {factors[0]} times",
            needed="one factor for init_from.rescale_noise, which compares sizes in pixels",
            fix="init_from.rescale_noise=false, and process.resolution by hand",
        )
    wanted = None if area(origin) == area(here) else ResolutionConfig(from_px=origin, to_px=here)
    _require_open("process.resolution", own, wanted, (None, there))
    return wanted


def _moved(resolution: ResolutionConfig | None, size: int | tuple[int, int]) -> ResolutionConfig | None:
    """The same shift, written for pictures of another size."""
    if resolution is None or area(resolution.to_px) == area(size):
        return resolution
    if isinstance(size, int) and isinstance(resolution.from_px, int) and isinstance(resolution.to_px, int):
        origin, rest = divmod(resolution.from_px * size, resolution.to_px)
        if not rest:
            return ResolutionConfig(from_px=origin, to_px=size)
    raise ConfigError(
        f"the source's process.resolution, {resolution.from_px} to {resolution.to_px} px, has no equal for {size} px",
        fix="state process.resolution",
    )


def _factor(recipe: Recipe) -> int:
    return recipe.data.transform.height_px // recipe.latent_shape[1]


def _require_open(
    name: str, own: PositionsConfig | ResolutionConfig | None, wanted: object, open_values: tuple[object, ...]
) -> None:
    """Raise ConfigError where a recipe states something else than what follows from its source."""
    if own != wanted and own not in open_values:
        raise ConfigError(f"{name}={own} differs from what follows from init_from, {wanted}", fix=f"leave {name} out")


def _said(value: Any) -> str:
    """A setting for people: of measured numbers four digits."""
    if isinstance(value, list) and value and all(isinstance(each, float) for each in value):
        return f"[{', '.join(f'{each:.4g}' for each in value)}]"
    return str(value)


def _compared(recipe: Recipe, known: Knowledge) -> dict[str, Any]:
    content = recipe.model_dump(mode="json")
    blocks = {name: content[name] for name in _COMPARED} | {"data.transform": content["data"]["transform"]}
    return flattened(blocks) | {"latents.mean": list(known.stats.mean), "latents.std": list(known.stats.std)}
