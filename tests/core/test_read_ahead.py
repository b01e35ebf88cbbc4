"""Many short reads of one file: the bytes of the file, in few reads; and the collector that is off meanwhile."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from open_ldm.core import read_ahead
from open_ldm.core.collector import collector_off
from open_ldm.core.read_ahead import ReadAhead

SIZE = 300_000


@pytest.fixture
def handle(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "file").write_bytes(np.random.default_rng(0).bytes(SIZE))
    opened = os.open(tmp_path / "file", os.O_RDONLY)
    yield opened
    os.close(opened)


def test_reads_in_any_order_give_the_bytes_of_the_file(handle: int) -> None:
    draw = np.random.default_rng(1)
    file = ReadAhead(handle)
    offset = 0
    for number in range(3000):
        size = int(draw.integers(0, 5000 if number % 7 else 100_000))
        offset = int(draw.integers(0, SIZE + 100)) if number % 5 == 0 else offset + int(draw.integers(-600, 3000))
        offset = min(max(offset, 0), SIZE + 100)
        assert file.read(size, offset) == os.pread(handle, size, offset)


def test_reads_that_follow_each_other_are_few_and_jumps_read_little(handle: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def counted(handle: int, size: int, offset: int) -> bytes:
        asked.append(size)
        return os.pread(handle, size, offset)

    monkeypatch.setattr(read_ahead, "read_at", counted)
    file = ReadAhead(handle)
    for offset in range(0, SIZE - 512, 1024):
        file.read(512, offset)
    assert len(asked) <= 12
    assert max(asked) == 1 << 16
    asked.clear()
    for offset in range(0, SIZE - 512, 50_000):
        file.read(512, offset)
    assert asked == [2048] * len(asked)


def test_the_collector_is_off_and_then_as_it_was() -> None:
    assert gc.isenabled()
    with pytest.raises(ValueError, match="inside"), collector_off():
        assert not gc.isenabled()
        raise ValueError("inside")
    assert gc.isenabled()
    gc.disable()
    try:
        with collector_off():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
