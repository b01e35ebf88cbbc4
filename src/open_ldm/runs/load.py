"""Loading a finished or running run for sampling: the averaged weights of its newest good checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from open_ldm.autoencoders import latent_shape
from open_ldm.autoencoders.pretrained import PretrainedConfig
from open_ldm.checkpoints.checkpoint import FOR_SAMPLING, Checkpoint, CheckpointFolder, load_checkpoint
from open_ldm.checkpoints.names import is_checkpoint, run_folder_of
from open_ldm.conditioning import ConditionInputs
from open_ldm.core.device import DeviceName, Machine, set_up_machine
from open_ldm.core.errors import CheckpointError, ConfigError
from open_ldm.data.bucket_shapes import Shape
from open_ldm.data.transforms import TransformConfig
from open_ldm.denoisers.attention_switch import write_out_up_to
from open_ldm.model.alignment import ALIGNMENT
from open_ldm.model.diffusion import DiffusionModel, build_model
from open_ldm.model.knowledge import Knowledge
from open_ldm.run_folder.folder import RunFolder
from open_ldm.runs.begun import parsed
from open_ldm.runs.build import build_generator
from open_ldm.runs.encoders import load_autoencoder, load_text_encoder
from open_ldm.runs.recipe import Recipe, recipe_from
from open_ldm.runs.settled import written_out_of
from open_ldm.runs.shapes import sampled_shapes
from open_ldm.sampling.generate import Generator
from open_ldm.sampling.requests import SampleRequest, build_inputs
from open_ldm.text import TextEncoder


@dataclass(frozen=True)
class LoadedRun:
    """A run that is ready to sample pictures.

    Attributes:
        path: As it was given.
        recipe: The run's.
        known: What it learned of its data.
        model: Its averaged model, in evaluation mode.
        generator: Samples pictures from the model.
        samples_seen: By the model.
        machine: Where it computes.
        text_encoder: None when the model reads no captions.
        problems: One line for each newer checkpoint that was passed over.
    """

    path: Path
    recipe: Recipe
    known: Knowledge
    model: DiffusionModel
    generator: Generator
    samples_seen: int
    machine: Machine
    text_encoder: TextEncoder | None
    problems: tuple[str, ...]

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The shapes of pictures that the model was trained on, the usual one first."""
        return sampled_shapes(self.recipe.transform)

    @property
    def transform(self) -> TransformConfig:
        """How views of the shape that the run samples are cut."""
        view = self.known.facts.view
        cut = self.recipe.transform
        return cut if cut.buckets is None else cut.of_shape((view.height_px, view.width_px))

    def of_shape(self, shape: Shape) -> LoadedRun:
        """Return the run ready to sample pictures of (height, width) in px, one of its `shapes`."""
        size = latent_shape(self.recipe.autoencoder, *shape)[1:]
        known = replace(self.known, facts=self.known.facts.of_shape(shape))
        return replace(self, known=known, generator=self.generator.of_size(size))

    def build_inputs(self, requests: Sequence[SampleRequest]) -> ConditionInputs:
        """Build this model's condition inputs, one row per request; errors as `requests.build_inputs`."""
        return build_inputs(requests, self.recipe.conditioning, self.known.facts, self.text_encoder)


@dataclass(frozen=True)
class LoadedModel:
    """A run's averaged model alone, in evaluation mode, without autoencoder or text encoder.

    The recipe is the run's, but names the autoencoder that lies in the run's own folder where one does.
    """

    recipe: Recipe
    known: Knowledge
    model: DiffusionModel
    samples_seen: int
    machine: Machine
    problems: tuple[str, ...]


def load_model(path: Path, device: DeviceName = "auto") -> LoadedModel:
    """Load the averaged model of a run.

    Args:
        path: A run folder, or one checkpoint inside it.
        device: Where to put the model.

    Returns:
        The model in evaluation mode, without autoencoder and text encoder.

    Raises:
        ConfigError: There is no such run, or it has not saved yet.
        CheckpointError: No checkpoint verifies, or it does not fit its own recipe.
    """
    checkpoint, problems = load_run_checkpoint(path)
    recipe = parsed(recipe_from, checkpoint.content["recipe"], f"{checkpoint.path.name}/MANIFEST.json")
    recipe = _with_packed_autoencoder(recipe, RunFolder(run_folder_of(path)).vae)
    known = Knowledge.from_json(checkpoint.content)
    machine = set_up_machine(device, recipe.training.dtype)
    model = build_model(recipe.model_spec(known.facts), recipe.training.seed)
    try:
        sampled = {name: each for name, each in checkpoint.files["ema"].items() if not name.startswith(ALIGNMENT)}
        model.load_state_dict(sampled)
    except RuntimeError as error:
        raise CheckpointError(f"{checkpoint.path} does not fit its own recipe: {str(error).splitlines()[-1]}") from error
    write_out_up_to(model, written_out_of(checkpoint.content.get("fingerprint", {})))
    model = model.to(machine.device).compute_in(machine.compute_dtype).eval().requires_grad_(False)
    return LoadedModel(recipe, known, model, int(checkpoint.content["samples_seen"]), machine, tuple(problems))


def _with_packed_autoencoder(recipe: Recipe, vae: Path) -> Recipe:
    if not isinstance(recipe.autoencoder, PretrainedConfig) or not vae.is_dir():
        return recipe
    here = recipe.autoencoder.model_copy(update={"path": str(vae), "subfolder": ""})
    return recipe.model_copy(update={"autoencoder": here})


def load_run(path: Path, device: DeviceName = "auto") -> LoadedRun:
    """Load a run with all that sampling needs: model, autoencoder and text encoder; arguments and errors as `load_model`."""
    loaded = load_model(path, device)
    recipe, known, machine = loaded.recipe, loaded.known, loaded.machine
    generator = build_generator(recipe, known, loaded.model, load_autoencoder(recipe, known.facts, machine), machine)
    text_encoder = load_text_encoder(recipe, known.facts, machine)
    run = LoadedRun(path, recipe, known, loaded.model, generator, loaded.samples_seen, machine, text_encoder, loaded.problems)
    return run if recipe.data.transform.buckets is None else run.of_shape(run.shapes[0])


def load_run_checkpoint(path: Path, group: str = "ema") -> tuple[Checkpoint, list[str]]:
    """Load one group of tensors from the newest good checkpoint of a run; of a run in stages, of its last stage that saved.

    Args:
        path: A run folder, or one checkpoint inside it.
        group: "ema" for averaged weights, "model" for raw ones.

    Returns:
        The verified checkpoint, and one line for each newer checkpoint that is damaged.

    Raises:
        ConfigError: There is no run at `path`, it has not saved yet, or its checkpoint holds no such weights.
        CheckpointError: No checkpoint verifies.
    """
    if is_checkpoint(path) and path.is_dir():
        found, problems = load_checkpoint(path, (group,), FOR_SAMPLING), list[str]()
    else:
        found, problems = _newest(path, group)
    if group not in found.files:
        kind = "raw" if group == "model" else group
        raise ConfigError(f"{path} holds no {kind} weights", needed="a run of ldm train", fix="set init_from.weights=averaged")
    return found, problems


def _newest(path: Path, group: str) -> tuple[Checkpoint, list[str]]:
    folder = RunFolder(path)
    if not any(part.exists() for part in (folder.config, folder.checkpoints, folder.stages, path / "autoencoder")):
        raise ConfigError(f"{path} is no run folder", needed="a folder made by ldm train", fix="check the path")
    if (path / "autoencoder" / "config.json").is_file():
        raise ConfigError(
            f"{path} holds an autoencoder",
            needed="a run of ldm train",
            fix=f"to train behind it, set autoencoder.path={path}/autoencoder",
        )
    for part in reversed(folder.parts):
        newest, problems = CheckpointFolder(part.checkpoints, required=FOR_SAMPLING).newest((group,))
        if newest is not None:
            return newest, problems
    raise ConfigError(
        f"{path} holds no checkpoint yet", needed="a run that has saved once", fix="let ldm train go on for longer"
    )
