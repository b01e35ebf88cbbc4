"""Open a finished or running run for sampling: the averaged weights of its newest good checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_ldm.autoencoders import LatentStats
from open_ldm.conditioning import ConditionInputs
from open_ldm.core.device import DeviceName, Machine, choose_machine
from open_ldm.core.errors import CheckpointError, ConfigError
from open_ldm.model.checkpoint import DRAWABLE, PREFIX, Checkpoint, CheckpointFolder, load_checkpoint
from open_ldm.model.diffusion import DiffusionModel
from open_ldm.model.spec import DataFacts
from open_ldm.runs.build import Knowledge, autoencoder_of, generator_of, model_of, text_encoder_of
from open_ldm.runs.folder import RunFolder
from open_ldm.runs.recipe import Recipe, recipe_from
from open_ldm.runs.requests import SampleRequest, inputs_for
from open_ldm.sampling.generate import Generator
from open_ldm.text import TextEncoder


@dataclass(frozen=True)
class LoadedRun:
    """A run ready to draw pictures."""

    path: Path
    recipe: Recipe
    known: Knowledge
    model: DiffusionModel
    generator: Generator
    samples_seen: int
    machine: Machine
    text_encoder: TextEncoder | None
    problems: tuple[str, ...]
    """Newer checkpoints that were passed over, and why."""

    def inputs_for(self, requests: Sequence[SampleRequest]) -> ConditionInputs:
        """Condition inputs of this model, one row per request. Raises ConfigError for what the model does not know."""
        return inputs_for(requests, self.recipe.conditioning, self.known.facts, self.text_encoder)


def knowledge_to_json(known: Knowledge) -> dict[str, Any]:
    """Plain data for a manifest."""
    return {
        "facts": known.facts.to_json(),
        "latent_stats": {"mean": list(known.stats.mean), "std": list(known.stats.std)},
    }


def knowledge_from_json(content: Any) -> Knowledge:
    """The inverse; raises CheckpointError for a manifest that lacks it."""
    try:
        stats = content["latent_stats"]
        return Knowledge(DataFacts.from_json(content["facts"]), LatentStats(tuple(stats["mean"]), tuple(stats["std"])))
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"the manifest lacks {error}", needed="a checkpoint written by this program") from error


@dataclass(frozen=True)
class LoadedModel:
    """A run's averaged model alone, in evaluation mode, without autoencoder or text encoder."""

    recipe: Recipe
    known: Knowledge
    model: DiffusionModel
    samples_seen: int
    machine: Machine
    problems: tuple[str, ...]


def load_model(path: Path, device: DeviceName = "auto") -> LoadedModel:
    """The model of a run folder, or of one checkpoint inside it. Raises ConfigError when it is neither."""
    checkpoint, problems = checkpoint_of(path)
    recipe = recipe_from(checkpoint.content["recipe"], (), source=f"{checkpoint.path.name}/MANIFEST.json")
    known = knowledge_from_json(checkpoint.content)
    machine = choose_machine(device, recipe.training.dtype)
    model = model_of(recipe, known.facts)
    try:
        model.load_state_dict(dict(checkpoint.files["ema"]))
    except RuntimeError as error:
        raise CheckpointError(f"{checkpoint.path} does not fit its own recipe: {str(error).splitlines()[-1]}") from error
    model = model.to(machine.device).compute_in(machine.compute_dtype).eval().requires_grad_(False)
    return LoadedModel(recipe, known, model, int(checkpoint.content["samples_seen"]), machine, tuple(problems))


def load_run(path: Path, device: DeviceName = "auto") -> LoadedRun:
    """Open a run folder, or one checkpoint inside it, with all that drawing needs. Raises as `load_model`."""
    loaded = load_model(path, device)
    recipe, known, machine = loaded.recipe, loaded.known, loaded.machine
    generator = generator_of(recipe, known, loaded.model, autoencoder_of(recipe, known.facts, machine))
    text_encoder = text_encoder_of(recipe, known.facts, machine)
    return LoadedRun(path, recipe, known, loaded.model, generator, loaded.samples_seen, machine, text_encoder, loaded.problems)


def checkpoint_of(path: Path, group: str = "ema") -> tuple[Checkpoint, list[str]]:
    """The newest good checkpoint of a run folder, or one checkpoint inside it, with one group of its tensors.

    Of a run in stages: that of the last stage that has one. Also one line for each newer checkpoint that is damaged.
    """
    if path.name.startswith(PREFIX) and path.is_dir():
        found, problems = load_checkpoint(path, (group,), DRAWABLE), list[str]()
    else:
        found, problems = _newest(path, group)
    if group not in found.files:
        kind = "raw" if group == "model" else group
        raise ConfigError(f"{path} holds no {kind} weights", needed="a run of ldm train", fix="init_from.weights=averaged")
    return found, problems


def _newest(path: Path, group: str) -> tuple[Checkpoint, list[str]]:
    folder = RunFolder(path)
    if not any(part.exists() for part in (folder.config, folder.checkpoints, folder.stages, path / "autoencoder")):
        raise ConfigError(f"no run folder {path}", needed="a folder made by ldm train", fix="check the path")
    if (path / "autoencoder" / "config.json").is_file():
        raise ConfigError(
            f"{path} holds an autoencoder", needed="a run of ldm train", fix=f"autoencoder.path={path}/autoencoder"
        )
    for part in reversed(folder.parts):
        newest, problems = CheckpointFolder(part.checkpoints, required=DRAWABLE).newest((group,))
        if newest is not None:
            return newest, problems
    raise ConfigError(
        f"{path} holds no checkpoint yet", needed="a run that has saved once", fix="let ldm train go on for longer"
    )
