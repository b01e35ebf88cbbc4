"""Published weight files: found on the disk or the hub, hashed, and loaded whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from open_ldm.core.errors import ConfigError
from open_ldm.core.extras import need
from open_ldm.core.files import hash_file
from open_ldm.core.model_folders import find_model_folder

_COUNTER = "num_batches_tracked"  # batch norm's count of training steps: of no use, and absent from older files
_HUB_PARTS = 3
_MODEL_FILES = ("*.json", "*.safetensors", "*.txt", "*.model")


def _hub() -> tuple[Any, Any]:
    """The hub's library and its errors."""
    return need("huggingface_hub", extra="text"), need("huggingface_hub.errors", extra="text")


def find_file(path: str, key: str) -> Path:
    """A local file, or OWNER/NAME/FILE on the hub (downloaded once). `key`: the config's, for the error."""
    local = Path(path).expanduser()
    if local.is_file():
        return local
    parts = path.split("/")
    if local.is_absolute() or len(parts) < _HUB_PARTS:
        raise ConfigError(f"{key}={path!r} is not there", needed="a weights file, or OWNER/NAME/FILE on the hub")
    hub, errors = _hub()
    try:
        return Path(hub.hf_hub_download("/".join(parts[:2]), "/".join(parts[2:])))
    except (OSError, errors.HfHubHTTPError, errors.HFValidationError) as error:
        raise ConfigError(
            f"{key}={path!r} is no file here and cannot be had from the hub ({_first_line(error)})",
            needed="a weights file, or OWNER/NAME/FILE on a reachable hub",
        ) from error


def find_folder(path: str, key: str) -> Path:
    """A local folder of a transformers model, package:NAME/FOLDER, or OWNER/NAME on the hub (downloaded once)."""
    local = Path(find_model_folder(path))
    if local.is_dir():
        return local
    hub, errors = _hub()
    try:
        return Path(hub.snapshot_download(path, allow_patterns=list(_MODEL_FILES)))
    except (OSError, errors.HfHubHTTPError, errors.HFValidationError) as error:
        raise ConfigError(
            f"{key}={path!r} is no folder here and cannot be had from the hub ({_first_line(error)})",
            needed="a folder with config.json and model.safetensors, or OWNER/NAME on a reachable hub",
        ) from error


def load_exactly(network: nn.Module, tensors: Mapping[str, Tensor], file: Path) -> None:
    """Fill a network with the tensors of `file`.

    Raises ConfigError when one is missing, left over, of another shape or not finite.
    """
    wanted = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith(_COUNTER)}
    given = {name: tensor for name, tensor in tensors.items() if not name.endswith(_COUNTER)}
    if missing := sorted(wanted.keys() - given.keys()):
        raise _does_not_fit(file, f"lacks {len(missing)} of {len(wanted)} tensors, {missing[0]} first")
    if odd := sorted(given.keys() - wanted.keys()):
        raise _does_not_fit(file, f"has {len(odd)} tensors too many, {odd[0]} first")
    for name, tensor in given.items():
        if tensor.shape != wanted[name].shape:
            shapes = f"{list(tensor.shape)}, needed {list(wanted[name].shape)}"
            raise _does_not_fit(file, f"has {name} of shape {shapes}")
        if not torch.isfinite(tensor).all():
            raise _does_not_fit(file, f"has NaN or infinity in {name}")
    network.load_state_dict(given, strict=False)


def hash_of(files: Sequence[Path]) -> str:
    """SHA-256 of one file, or of the hashes of several in the order of their names."""
    hashes = [hash_file(file) for file in sorted(files, key=lambda file: file.name)]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _does_not_fit(file: Path, problem: str) -> ConfigError:
    return ConfigError(f"weights file {file.name} {problem}", fix="give the file that was made for this network")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]
