"""Reading published weight files: safetensors, diffusers folders, and pickles in a process of their own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from open_ldm.core.errors import CheckpointError, ConfigError
from open_ldm.core.files import hash_file
from open_ldm.core.hashes import hash_content
from open_ldm.core.plain_data import parse_json

PICKLES = (".pt", ".pth", ".ckpt", ".bin")
GROUP_END = "::"
"""Between the name of a group and of its tensor, where a file holds several sets of weights."""
_AVERAGED = ("ema", "state_dict_ema", "model_ema", "ema_state_dict")
_PLAIN = ("model", "state_dict", "module")
_WRAPPINGS = ("module.", "_orig_mod.")
_LIT_EMA = "model_ema"
_UNPICKLE_SECONDS = 1800


@dataclass(frozen=True)
class WeightFile:
    """The tensors of a published file.

    Attributes:
        path: As it was given.
        state: Tensors by name.
        sha256: Of the file; of a folder with several files, of their names and hashes.
        weights: Which set of weights was read, where the file holds several.
        config: Content of a diffusers folder's config.json.
    """

    path: Path
    state: Mapping[str, Tensor]
    sha256: str
    weights: str = "the only ones"
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_diffusers(self) -> bool:
        """Whether it is a folder in diffusers' layout."""
        return bool(self.config)


def read_weights(path: Path) -> WeightFile:
    """Read a weight file or a diffusers folder; averaged weights are preferred where a file holds several sets.

    Args:
        path: A safetensors file, a pickle (read in a process of its own, as tensors alone), or a diffusers folder.

    Returns:
        The tensors, on the CPU.

    Raises:
        ConfigError: There is nothing to read at `path`.
        CheckpointError: The file is damaged, or holds more than tensors.
    """
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise ConfigError(f"there is no file or folder {path}", needed="a weight file, or a folder in diffusers' format")
    if path.suffix == ".safetensors":
        tensors = _load(path)
    elif path.suffix in PICKLES:
        tensors = _unpickled(path)
    else:
        raise ConfigError(f"{path.name} is no weight file", needed=f"one of .safetensors, {', '.join(PICKLES)}")
    chosen, state = _averaged_in_place(*_chosen(tensors))
    return WeightFile(path, {_unwrapped(name): tensor for name, tensor in state.items()}, hash_file(path), chosen)


def _read_folder(folder: Path) -> WeightFile:
    """diffusers' format: config.json and one or several safetensors, perhaps in `transformer` or `unet`."""
    inside = [folder, folder / "transformer", folder / "unet"]
    holder = next((each for each in inside if (each / "config.json").is_file()), None)
    if holder is None:
        raise ConfigError(f"{folder} holds no config.json", needed="a folder written by diffusers' save_pretrained")
    files = sorted(holder.glob("*.safetensors"))
    if not files:
        raise ConfigError(f"{holder} holds no safetensors", fix="save it again with safe_serialization=True")
    state: dict[str, Tensor] = {}
    for file in files:
        tensors = _load(file)
        if twice := state.keys() & tensors.keys():
            raise ConfigError(f"{holder} holds {min(twice)!r} twice, also in {file.name}", fix="keep one set of the weights")
        state.update(tensors)
    try:
        config = parse_json((holder / "config.json").read_text())
    except ValueError as error:
        raise CheckpointError(f"{holder / 'config.json'} is damaged") from error
    hashes = {file.name: hash_file(file) for file in files}
    sha256 = hashes[files[0].name] if len(files) == 1 else hash_content(hashes)
    return WeightFile(folder, state, sha256, config=config)


def _load(path: Path) -> dict[str, Tensor]:
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path.name} cannot be read: {error}", fix="copy or download it again") from error


def _unpickled(path: Path) -> dict[str, Tensor]:
    """A pickle's tensors. It is opened with weights_only=True by a process with limits, which writes safetensors."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "weights.safetensors"
        command = [sys.executable, "-m", "open_ldm.interop.unpickle", str(path), str(target)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_UNPICKLE_SECONDS, check=False)
        except subprocess.TimeoutExpired as error:
            raise CheckpointError(f"{path.name} took more than {_UNPICKLE_SECONDS} s to read") from error
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise CheckpointError(
                f"{path.name} cannot be read as plain tensors: {reason[:300]}",
                needed="a file of tensors alone, best .safetensors, which cannot hold code",
            )
        return _load(target)


def _chosen(tensors: Mapping[str, Tensor]) -> tuple[str, Mapping[str, Tensor]]:
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        group, separator, rest = name.partition(GROUP_END)
        groups.setdefault(group if separator else "", {})[rest if separator else name] = tensor
    for name in (*_AVERAGED, *_PLAIN):
        if name in groups:
            return name, groups[name]
    if "" in groups:
        return "the only ones", groups[""]
    raise CheckpointError(f"the file holds {', '.join(groups)}", needed=f"one of {', '.join((*_AVERAGED, *_PLAIN))}")


def _averaged_in_place(chosen: str, state: Mapping[str, Tensor]) -> tuple[str, Mapping[str, Tensor]]:
    """Replace weights by their averages, which latent-diffusion's files hold beside them: `model_ema.ab` for `model.a.b`.

    What is not averaged there (autoencoder, conditions) stays as it is.
    """
    averages = {name for name in state if name.startswith(f"{_LIT_EMA}.")}
    if not averages:
        return chosen, state
    found = {}
    for name in state.keys() - averages:
        outer, _, inner = name.partition(".")
        average = f"{_LIT_EMA}.{inner.replace('.', '')}" if outer == "model" else name
        found[name] = state.get(average, state[name])
    return _LIT_EMA, found


def _unwrapped(name: str) -> str:
    for wrapping in _WRAPPINGS:
        name = name.removeprefix(wrapping)
    return name
