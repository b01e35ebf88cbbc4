"""Large tensors into a safetensors file without a copy of them in memory.

The file begins with the length of its header (8 bytes, little-endian), then the header as JSON: of every tensor its format,
shape and place behind the header. `safetensors.torch.save` would hold all bytes twice more; its `save_file` opens the file
itself, so that processes which tidy the folder cannot know that it is being written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from open_ldm.core.files import writing_whole

_FORMATS = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.int64: "I64", torch.int32: "I32"}
_ALIGNED = 8


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors in the memory of the CPU into a safetensors file, whole or not at all.

    Args:
        path: The file.
        tensors: By name; float64, float32, float16, int64 or int32.

    Raises:
        DiskError: The disk refuses. An old file then stays as it was.
    """
    in_order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))  # so that every tensor is aligned
    header, at = {}, 0
    for name in in_order:
        tensor = tensors[name]
        end = at + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _FORMATS[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, end]}
        at = end
    said = json.dumps(header).encode()
    said += b" " * (-len(said) % _ALIGNED)
    with writing_whole(path) as file:
        file.write(len(said).to_bytes(8, "little") + said)
        for name in in_order:
            if tensors[name].numel():
                file.write(tensors[name].contiguous().numpy().reshape(-1).view("uint8").data)
