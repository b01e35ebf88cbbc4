"""Published weights -> a run folder that can be sampled from, and a run -> a diffusers folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from open_ldm.autoencoders import GivenStats
from open_ldm.autoencoders.latent_stats import given
from open_ldm.checkpoints.checkpoint import CheckpointFolder
from open_ldm.controls import ViewShape
from open_ldm.core.config import to_yaml
from open_ldm.core.errors import CheckpointError, ConfigError
from open_ldm.core.files import write_json, write_text
from open_ldm.core.new_folder import new_folder, require_new
from open_ldm.core.shapes_only import shapes_only
from open_ldm.interop.catalogue import FAMILIES, family_of
from open_ldm.interop.family import Description, Layout
from open_ldm.interop.files import WeightFile, read_weights
from open_ldm.model.diffusion import DiffusionModel
from open_ldm.model.knowledge import Knowledge
from open_ldm.model.spec import DataFacts
from open_ldm.run_folder.folder import RunFolder
from open_ldm.runs.load import load_model
from open_ldm.runs.recipe import Recipe, load_recipe

EXPORTED = "open_ldm.json"
BESIDE = "conditioning.safetensors"
OURS = "conditioning."
"""How names begin in it: those of our model, taken as they are when such a folder is imported."""


@dataclass(frozen=True)
class ImportResult:
    """A run folder made of published weights. `quirks`: what is peculiar to them, and which setting holds it."""

    run: Path
    parameters: int
    weights: str
    quirks: Mapping[str, Any]


def import_weights(name: str, path: Path, out: Path, overrides: Sequence[str] = ()) -> ImportResult:
    """Make the run folder `out` of a published file or diffusers folder; `overrides` change its recipe.

    Raises ConfigError for an unknown name or a folder in use, CheckpointError where file and architecture differ.
    """
    family = family_of(name)
    with RunFolder(out) as folder:
        if CheckpointFolder(folder.checkpoints).names():
            raise ConfigError(f"{out} already holds a run", fix="choose another --out")
        file = read_weights(path)
        state = family.tensors(file)
        description = family.describe(file, state)
        _require_heads(description, overrides)
        recipe = _recipe(name, family.recipe, description, overrides)
        known = _knowledge(recipe, description)
        layout: Layout = "diffusers" if file.is_diffusers else "original"
        beside = {name: tensor for name, tensor in state.items() if name.startswith(OURS)}
        theirs = {name: tensor for name, tensor in state.items() if name not in beside}
        ours = {**family.key_map(recipe.model_spec(known.facts), layout).read(theirs), **beside}
        tensors = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in ours.items()}
        _check(recipe, known.facts, tensors)
        quirks = _quirks(recipe, description, layout)
        about = _about(name, file, layout, state, quirks)
        content = {"recipe": recipe.model_dump(mode="json"), **known.to_json(), "published": about}
        CheckpointFolder(folder.checkpoints).save(0, {"ema": tensors}, content)
        folder.write_config(to_yaml(recipe))
    return ImportResult(out, sum(tensor.numel() for tensor in tensors.values()), file.weights, quirks)


def _require_heads(description: Description, overrides: Sequence[str]) -> None:
    """Heads do not show in shapes; another number of them would give other pictures and no error."""
    given = any(override.startswith(("denoiser.heads=", "denoiser.head_dim=", "denoiser=")) for override in overrides)
    if not given and not description.settings.keys() & {"denoiser.heads", "denoiser.head_dim"}:
        raise ConfigError("the number of attention heads cannot be read from the file", fix="add denoiser.heads=N")


def _recipe(name: str, base: str, description: Description, overrides: Sequence[str]) -> Recipe:
    """The packaged recipe with what the file says, then with what the user says."""
    start = load_recipe(base)
    factor = start.data.transform.height_px // start.latent_shape[1]
    said = {"name": name, "data.transform.size_px": description.latent_side * factor, **description.settings}
    return load_recipe(base, [*(f"{key}={_yaml(value)}" for key, value in said.items()), *overrides])


def _yaml(value: Any) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value)  # text is taken as typed, and JSON is YAML


def _knowledge(recipe: Recipe, description: Description) -> Knowledge:
    if not isinstance(recipe.latent_stats, GivenStats):
        raise ConfigError("latent_stats are measured on data, which an import does not read", fix="latent_stats.kind=given")
    channels, height, width = recipe.latent_shape
    size = recipe.data.transform
    facts = DataFacts(
        channels,
        ViewShape(size.height_px, size.width_px, min(size.height_px, size.width_px)),
        class_names=tuple(str(index) for index in range(description.classes)),
        latent_size=(height, width),
    )
    return Knowledge(facts, given(recipe.latent_stats, channels))


def _check(recipe: Recipe, facts: DataFacts, tensors: Mapping[str, Tensor]) -> None:
    """Every tensor of the model is there, in its shape, and finite; nothing else is."""
    with shapes_only():
        wanted = DiffusionModel(recipe.model_spec(facts)).state_dict()
    if odd := sorted(wanted.keys() ^ tensors.keys()):
        raise CheckpointError(f"the file and the recipe do not describe the same model: {odd[0]} is in one of them only")
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            raise CheckpointError(f"{name} has shape {list(tensor.shape)}", needed=f"shape {list(wanted[name].shape)}")
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{name} holds NaN or infinity", fix="copy or download the file again")


def _quirks(recipe: Recipe, description: Description, layout: Layout) -> dict[str, Any]:
    """What is peculiar to these weights, by the setting that holds it."""
    quirks: dict[str, Any] = {key: value for key, value in description.settings.items() if not key.startswith("denoiser.")}
    sampling = recipe.sampling.model_dump(mode="json")
    quirks |= {f"sampling.{key}": sampling[key] for key in ("spacing", "time_shift") if key in sampling}
    for key in ("heads", "head_dim", "positions"):
        if (value := recipe.denoiser.model_dump(mode="json").get(key)) is not None:
            quirks[f"denoiser.{key}"] = value
    if description.classes:
        quirks["null class"] = description.classes
    if isinstance(recipe.latent_stats, GivenStats):
        quirks["latent_stats"] = recipe.latent_stats.model_dump(mode="json")
    if recipe.denoiser.kind == "dit" and layout == "diffusers":
        quirks["denoiser.time_frequency_shift"] = recipe.denoiser.time_frequency_shift
    return quirks


def _about(
    name: str, file: WeightFile, layout: Layout, state: Mapping[str, Tensor], quirks: Mapping[str, Any]
) -> dict[str, Any]:
    kept = {id(tensor) for tensor in state.values()}
    return {
        "name": name,
        "file": file.path.name,
        "sha256": file.sha256,
        "layout": layout,
        "weights": file.weights,
        "dtypes": sorted({str(tensor.dtype).removeprefix("torch.") for tensor in state.values()}),
        "left_out": sorted(name for name, tensor in file.state.items() if id(tensor) not in kept)[:20],
        "quirks": dict(quirks),
    }


def beside(run: Path, ending: str) -> Path:
    """Return the folder RUN-ENDING beside a run. Raises ConfigError for the root of a disk, which is no run."""
    whole = run.expanduser().resolve()
    if not whole.name:
        raise ConfigError(f"{run} is no run folder", needed="a folder made by ldm train", fix="check the path")
    named = run if run.name not in ("", "..") else whole
    return named.with_name(f"{named.name}-{ending}")


def export_to_diffusers(run: Path, out: Path) -> Path:
    """Write a run's averaged weights as a folder that diffusers' own from_pretrained loads. Returns the folder.

    Raises ConfigError for a folder in use, or when diffusers cannot hold something that the model has.
    """
    require_new(out)
    loaded = load_model(run, "cpu")
    family = FAMILIES[loaded.recipe.denoiser.kind]
    model, ours = family.for_export(loaded.recipe.model_spec(loaded.known.facts), loaded.model.state_dict())
    network = family.peer(model)
    layout = family.key_map(model, "diffusers")
    network.load_state_dict(layout.write(ours))
    beside = {name: tensor.contiguous() for name, tensor in ours.items() if name not in layout.ours}
    with new_folder(out) as folder:
        network.save_pretrained(folder, safe_serialization=True)  # type: ignore[operator]
        about = {
            "run": run.name,
            "samples_seen": loaded.samples_seen,
            "class_names": list(loaded.known.facts.class_names),
            "latent_stats": loaded.known.to_json()["latent_stats"],
            "schedule": loaded.recipe.process.model_dump(mode="json"),
        }
        write_json(folder / EXPORTED, about)
        if beside:
            save_file(beside, folder / BESIDE)
        write_text(folder / "README.md", _readme(type(network).__name__, family.notes(model), sorted(beside)))
    return out


def _readme(kind: str, notes: str, beside: Sequence[str]) -> str:
    lines = [
        f"Weights for diffusers' `{kind}`: `{kind}.from_pretrained(FOLDER)`.",
        f"`{EXPORTED}` holds what diffusers cannot hold: latent statistics, schedule, class names.",
    ]
    if beside:
        lines.append(f"`{BESIDE}` holds our conditioning, whose output the network takes: {', '.join(beside)}.")
    return "\n".join(lines) + "\n" + (f"\n{notes}" if notes else "")
