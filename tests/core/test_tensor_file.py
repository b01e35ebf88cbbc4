"""Tensors into a safetensors file in pieces: what the library reads back, and how much memory it takes."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import pytest
import safetensors
import torch
from safetensors.torch import load_file

from open_ldm.core.files import temporary_files
from open_ldm.core.tensor_file import write_tensors


def test_the_library_reads_what_was_written(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tensors = {
        "vectors": torch.randn(5, 3),
        "turned": torch.randn(4, 6).t(),
        "half": torch.randn(3).half(),
        "scatter": torch.randn(2, 2, dtype=torch.float64),
        "keys": torch.randint(-(1 << 60), 1 << 60, (7,)),
        "short": torch.arange(3, dtype=torch.int32),
        "none": torch.zeros(0, 4),
        "one": torch.tensor(2.5),
    }
    write_tensors(tmp_path / "file.safetensors", tensors)
    found = load_file(tmp_path / "file.safetensors")
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)
    content = (tmp_path / "file.safetensors").read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    for name, about in json.loads(content[8:start]).items():
        assert (start + about["data_offsets"][0]) % tensors[name].element_size() == 0, f"{name} is not aligned"
    with safetensors.safe_open(tmp_path / "file.safetensors", framework="pt") as opened:
        assert torch.equal(opened.get_slice("vectors")[1:3], tensors["vectors"][1:3])


def test_nothing_is_copied(tmp_path: Path) -> None:
    tensors = {"vectors": torch.zeros(1 << 22)}
    tracemalloc.start()
    write_tensors(tmp_path / "file.safetensors", tensors)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1 << 20


def test_an_old_file_stays_where_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "file.safetensors"
    write_tensors(path, {"x": torch.ones(3)})
    with pytest.raises(KeyError):
        write_tensors(path, {"x": torch.ones(3, dtype=torch.complex64)})
    assert torch.equal(load_file(path)["x"], torch.ones(3))
    assert not list(temporary_files(tmp_path))
