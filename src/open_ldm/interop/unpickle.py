"""`python -m open_ldm.interop.unpickle FILE.pt OUT.safetensors`: a pickle's tensors, and nothing else of it.

A pickle can run code when it is opened. torch's weights_only=True refuses what is not a tensor or a plain container, but
that alone has been broken before (CVE-2025-32434), so the file is opened here, in a process that may neither write more
than such a file needs nor run for ever, and only safetensors leave it. Windows has no such limits on a process: there the
time that the caller waits is the only one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from open_ldm.core.locks import optional_module
from open_ldm.interop.files import GROUP_END

_CPU_SECONDS = 1200
_LIGHTNING_CALLBACK = "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"
_GROWTH = 4
"""Largest size of the output, in sizes of the input; half precision and shared tensors grow."""
_ADVICE = ("weights_only", "can still be loaded")
_FOUND = "WeightsUnpickler error: "


class NamedOnly:
    """Stands for a class that training files name without storing an object of it."""


def tensors_of(content: Any) -> dict[str, Tensor]:
    """Tensors of a state dict, or of several inside one mapping, as `group::name`. Raises ValueError when there are none."""
    if not isinstance(content, Mapping):
        raise ValueError(f"it holds a {type(content).__name__} and no mapping of tensors")
    found = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    for group, inner in content.items():
        if isinstance(inner, Mapping):
            found |= {f"{group}{GROUP_END}{name}": value for name, value in inner.items() if isinstance(value, Tensor)}
    if not found:
        raise ValueError("it holds no tensors")
    return {name: tensor.detach().contiguous().clone() for name, tensor in found.items()}


def reason_of(message: str) -> str:
    """One line of an error's message: what torch found, without its advice how to run the file's code after all."""
    lines = [line.strip() for line in message.splitlines() if line.strip() and not any(words in line for words in _ADVICE)]
    return next((line.removeprefix(_FOUND).partition(". Please use")[0] for line in lines), "no message")


def main(source: str, target: str) -> None:
    """Read, limit, write."""
    _limit(_GROWTH * Path(source).stat().st_size + (1 << 20))
    # DiT's training files keep their arguments, latent-diffusion's what a callback of Lightning remembered.
    torch.serialization.add_safe_globals([argparse.Namespace, (NamedOnly, _LIGHTNING_CALLBACK)])
    save_file(tensors_of(torch.load(source, map_location="cpu", weights_only=True)), target)


def _limit(size: int) -> None:
    """At most `size` bytes in one file, `_CPU_SECONDS` of computing and no core dump. Windows has no such limits."""
    resource = optional_module("resource")
    if resource is None:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2])
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {reason_of(str(error))}")
