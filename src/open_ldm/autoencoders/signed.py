"""A hash of an exported autoencoder inside its own weights file, so that damage is found and each file still replaces one."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from open_ldm.core.errors import CheckpointError
from open_ldm.core.hashes import hash_content, hash_tensors
from open_ldm.core.plain_data import parse_json

_WEIGHTS, _CONFIG = "diffusion_pytorch_model.safetensors", "config.json"
_HASH = "open_ldm_sha256"
_NOT_COUNTED = ("scaling_factor", "_diffusers_version", "_name_or_path")
"""Settings that change no number here, or from one export to the next."""


def sign(folder: Path) -> None:
    """Write the hash of weights and settings into the weights file of a folder in diffusers' format."""
    tensors = load_file(folder / _WEIGHTS)
    metadata = {"format": "pt", _HASH: hash_content([hash_tensors(tensors), _settings(folder)])}
    save_file(tensors, folder / _WEIGHTS, metadata=metadata)


def check_signed(folder: Path, name: str) -> None:
    """Compare weights and settings with the hash that the weights file states; files of other programs state none.

    Args:
        folder: In diffusers' format; it need not exist.
        name: What errors call it.

    Raises:
        CheckpointError: They differ, or the weights file cannot be read.
    """
    file = folder / _WEIGHTS
    if not file.is_file():
        return
    try:
        with safe_open(file, framework="pt") as opened:
            stated = (opened.metadata() or {}).get(_HASH)
        whole = stated is None or stated == hash_content([hash_tensors(load_file(file)), _settings(folder)])
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"autoencoder {name} cannot be read ({error})", fix="copy it again") from error
    if not whole:
        raise CheckpointError(
            f"autoencoder {name} is damaged: its SHA-256 is not the one it states",
            fix="copy it again, or let its training go on, which writes it anew",
        )


def _settings(folder: Path) -> dict[str, object]:
    content = parse_json((folder / _CONFIG).read_text(encoding="utf-8"))
    return {key: value for key, value in content.items() if key not in _NOT_COUNTED}
