"""Held-out pictures in a cache, encoded: what a held-out loss is measured on where no pictures are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from open_ldm.autoencoders import Posterior
from open_ldm.conditioning.conditioning import ConditioningConfig
from open_ldm.core.errors import DataError
from open_ldm.core.files import write_bytes
from open_ldm.core.hashes import hash_content
from open_ldm.core.plain_data import parse_json, to_json
from open_ldm.encoded.batch import EncodedBatch
from open_ldm.text import TextTokens

_OF_THE_MODEL = ("padding", "padding_floor", "null_kind", "null_keeps_mask")
"""Settings of a semantic condition that decide what the network makes of a caption, not how it is read."""


def read_by(conditioning: ConditioningConfig) -> dict[str, Any]:
    """Return what of the conditions decides what is read of a picture: no drops, gates or padding, and no path of a text model,
    whose own fingerprint tells whether it is the same."""
    semantic = conditioning.semantic.model_dump(mode="json")
    for name in _OF_THE_MODEL:
        semantic.pop(name, None)
    for group in semantic.get("encoder", {}).get("models", ()):
        for model in group:
            model.pop("path")
    controls = [one.model_dump(mode="json") for one in conditioning.controls]
    for control in controls:
        control.pop("gate", None)
    return {"semantic": semantic, "controls": controls}


def folder_of(cache: Path, made_from: Mapping[str, Any]) -> Path:
    """Return the folder of the batches that are made from these settings."""
    return cache / f"held-out-{hash_content(made_from)[:16]}"


def keep_batches(folder: Path, batches: Mapping[int, EncodedBatch], said: Mapping[str, Any]) -> None:
    """Write encoded batches by their numbers, with what is said of the pictures they show. Raises DiskError."""
    for number, batch in batches.items():
        tensors = {"mean": batch.posterior.mean, "positions": torch.tensor(batch.positions)}
        tensors |= {} if batch.posterior.std is None else {"std": batch.posterior.std}
        tensors |= {} if batch.labels is None else {"labels": batch.labels}
        if batch.text is not None:
            tensors |= {"text.tokens": batch.text.tokens, "text.mask": batch.text.mask}
            tensors |= {} if batch.text.pooled is None else {"text.pooled": batch.text.pooled}
        tensors |= {f"control.{key}": numbers for key, numbers in batch.controls.items()}
        content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        write_bytes(folder / f"{number:05d}.safetensors", save(content, {"said": to_json(dict(said))}))


def kept_batches(folder: Path, numbers: Sequence[int], device: torch.device) -> tuple[list[EncodedBatch], dict[str, Any]]:
    """Read batches by their numbers, with what is said of them.

    Args:
        folder: Where they lie.
        numbers: Their numbers.
        device: Where they go.

    Raises:
        DataError: One is missing or damaged.
    """
    batches, said = [], {}
    for number in numbers:
        path = folder / f"{number:05d}.safetensors"
        try:
            with safe_open(path, framework="pt") as opened:
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - no mapping
                said = parse_json((opened.metadata() or {})["said"])
            batches.append(_batch(tensors, device))
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise DataError(
                f"the cache holds no encoded held-out pictures of these settings ({path.name}: {type(error).__name__})",
                needed="a cache made with the same held_out, transform, encoders and controls",
                fix="ldm encode, or ldm train, where the pictures are",
            ) from error
    return batches, said


def _batch(tensors: Mapping[str, Tensor], device: torch.device) -> EncodedBatch:
    on = {name: tensor.to(device) for name, tensor in tensors.items()}
    text = TextTokens(on["text.tokens"], on["text.mask"], on.get("text.pooled")) if "text.tokens" in on else None
    return EncodedBatch(
        positions=tuple(tensors["positions"].tolist()),
        posterior=Posterior(on["mean"], on.get("std")),
        labels=on.get("labels"),
        text=text,
        controls={name.removeprefix("control."): on[name] for name in on if name.startswith("control.")},
    )
