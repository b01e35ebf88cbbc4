"""Hashes of content: of plain data, and of tensors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def hash_content(content: Any) -> str:
    """Compute the SHA-256, in hexadecimal, of plain data as canonical JSON: sorted keys, no spaces, ASCII."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Compute the SHA-256, in hexadecimal, of tensors' names, shapes, dtypes and bits; order and device do not matter."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
