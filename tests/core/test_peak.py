"""The measured peak is stored once for each device and format, and the better one counts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from open_ldm.core import peak
from open_ldm.core.device import Machine
from open_ldm.core.peak import PEAK, matrix_speed, peak_speed, remember_peak
from open_ldm.core.user_cache import machine_file

CPU = Machine(torch.device("cpu"), torch.float32)


@pytest.fixture(autouse=True)
def _cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_a_peak_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[Machine] = []
    monkeypatch.setattr(peak, "matrix_speed", lambda machine: measured.append(machine) or 5e9)
    assert peak_speed(CPU) == peak_speed(CPU) == 5e9
    assert measured == [CPU]
    assert peak_speed(Machine(CPU.device, torch.bfloat16)) == 5e9 and len(measured) == 2


def test_the_better_measurement_counts() -> None:
    assert [remember_peak(CPU, speed) for speed in (2e9, 5e9, 3e9)] == [2e9, 5e9, 5e9]
    assert peak_speed(CPU) == 5e9


@pytest.mark.parametrize("text", ["", "[]", "{", '{"x": "fast"}', '{"x": NaN}'])
def test_a_damaged_file_is_measured_anew(text: str) -> None:
    machine_file(PEAK).parent.mkdir(parents=True)
    machine_file(PEAK).write_text(text)
    assert remember_peak(CPU, 7.0) == 7.0
    assert 7.0 in json.loads(machine_file(PEAK).read_text()).values()


def test_a_folder_that_refuses_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert remember_peak(CPU, 7.0) == 7.0


def test_products_of_any_size_are_timed() -> None:
    assert matrix_speed(CPU, side=16) > 0
