"""A run as a folder small enough to be shipped: its averaged weights in bf16 with a manifest, its recipe, its autoencoder."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch

from open_ldm.autoencoders.pretrained import PretrainedConfig
from open_ldm.checkpoints.checkpoint import CheckpointFolder
from open_ldm.core.config import to_yaml
from open_ldm.core.errors import ConfigError
from open_ldm.core.model_folders import find_model_folder
from open_ldm.core.new_folder import new_folder, require_new
from open_ldm.run_folder.folder import RunFolder
from open_ldm.runs.load import LoadedModel, LoadedRun, load_model
from open_ldm.runs.recipe import Recipe

_OF_AN_AUTOENCODER = ("config.json", "diffusion_pytorch_model.safetensors")


def pack_model(run: Path, out: Path) -> int:
    """Write a run's averaged weights in bf16, half of their bytes, as a run folder that `ldm sample` takes.

    Rounding to bf16 moves every weight by at most 1 in 256, which changes pictures a little. An autoencoder in a folder of its
    own is copied as it is, since the model takes no other encoder; one of the hub stays there.

    Args:
        run: A run folder, or one checkpoint inside it.
        out: The folder to make.

    Returns:
        The bytes that were written.

    Raises:
        ConfigError: `out` is in use, or there is no such run.
    """
    require_new(out)
    loaded = load_model(run, "cpu")
    with new_folder(out) as folder:
        write_model(loaded, loaded.recipe, folder, torch.bfloat16)
        _copy_autoencoder(loaded.recipe, RunFolder(folder).vae)
    return size_of(out)


def _copy_autoencoder(recipe: Recipe, out: Path) -> None:
    config = recipe.autoencoder
    if not isinstance(config, PretrainedConfig) or not (folder := Path(find_model_folder(config.path))).is_dir():
        return
    out.mkdir()
    for file in (folder / config.subfolder).iterdir():
        if file.name in _OF_AN_AUTOENCODER or file.name.upper().startswith("LICENSE"):
            shutil.copyfile(file, out / file.name)


def write_model(loaded: LoadedModel | LoadedRun, recipe: Recipe, out: Path, dtype: torch.dtype = torch.float32) -> None:
    """Write averaged weights, what the model learned of its data, and a recipe, as a run folder that `ldm sample` takes.

    Args:
        loaded: The model.
        recipe: Its own, or one with other paths.
        out: The folder to make.
        dtype: Of the weights.
    """
    state = loaded.model.state_dict()
    tensors = {name: one.to(dtype).contiguous() if one.is_floating_point() else one for name, one in state.items()}
    content = {"recipe": recipe.model_dump(mode="json"), **loaded.known.to_json()}
    folder = RunFolder(out)
    out.mkdir(parents=True, exist_ok=True)
    CheckpointFolder(folder.checkpoints).save(loaded.samples_seen, {"ema": tensors}, content)
    folder.write_config(to_yaml(recipe))


def pack_models(runs: Mapping[str, Path], out: Path, most_bytes: int) -> Mapping[str, int]:
    """Pack several runs into `out/NAME`; returns the bytes of each.

    Raises:
        ConfigError: One exists, or together they have more than `most_bytes`; what was written stays to be looked at.
    """
    sizes = {name: pack_model(run, out / name) for name, run in runs.items()}
    if (total := sum(sizes.values())) > most_bytes:
        raise ConfigError(
            f"{out} has {total:,} bytes",
            needed=f"at most {most_bytes:,}",
            fix="train smaller networks, such as denoiser.depth=...",
        )
    return sizes


def size_of(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
