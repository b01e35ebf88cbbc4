"""Up to how many keys attention is written out: measured once for a processor, and another kernel only by choice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from open_ldm.core.device import Machine
from open_ldm.core.user_cache import machine_file
from open_ldm.denoisers import attention_switch
from open_ldm.denoisers.attention_kernel import kernel_of
from open_ldm.denoisers.attention_switch import ATTENTION, longest_written_out, write_out_up_to
from open_ldm.denoisers.blocks.attention import Attention, attend
from tests.helpers import randn

CPU = Machine(torch.device("cpu"), torch.float32)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(attention_switch, "cores_of_others", lambda seconds: 0.0)


def faster_up_to(longest: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Pretend that writing out pays up to so many keys; the lengths that are measured are noted."""
    asked: list[int] = []

    def gain(length: int, dtype: torch.dtype) -> float:
        asked.append(length)
        return 1.5 if length <= longest else 0.7

    monkeypatch.setattr(attention_switch, "_gain", gain)
    return asked


def test_it_is_measured_once_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = faster_up_to(384, monkeypatch)
    assert longest_written_out(CPU) == 384
    assert asked == [128, 256, 384, 512]
    faster_up_to(0, monkeypatch)
    assert longest_written_out(CPU) == 384
    assert longest_written_out(Machine(torch.device("cpu"), torch.bfloat16)) == 0
    assert sorted(json.loads(machine_file(ATTENTION).read_text()).values()) == [0, 384]


def test_nothing_is_measured_beside_other_programs_or_for_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = faster_up_to(384, monkeypatch)
    monkeypatch.setattr(attention_switch, "cores_of_others", lambda seconds: 0.9)
    assert longest_written_out(CPU) is None
    assert longest_written_out(Machine(torch.device("cuda"), torch.float32)) is None
    assert asked == []
    assert not machine_file(ATTENTION).exists()


@pytest.mark.parametrize("text", ["[]", "{", '{"x": "far"}', "\0"])
def test_a_damaged_file_is_measured_anew(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    machine_file(ATTENTION).parent.mkdir(parents=True)
    machine_file(ATTENTION).write_text(text)
    faster_up_to(128, monkeypatch)
    assert longest_written_out(CPU) == 128
    assert 128 in json.loads(machine_file(ATTENTION).read_text()).values()


def test_a_real_measurement_names_a_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_switch, "LENGTHS", (128,))
    assert longest_written_out(CPU) in (0, 128)


def test_a_network_computes_as_it_was_told() -> None:
    module = Attention()
    q, k, v = (randn(2, 2, 40, 8, seed=seed) for seed in range(3))
    for longest, kernel in ((64, "written out"), (32, "torch's flash kernel")):
        write_out_up_to(module, {torch.float32: longest})
        assert kernel_of(q, k, v, longest=module.longest) == kernel
        assert torch.equal(module(q, k, v), attend(q, k, v, longest={torch.float32: longest}))
    written, kernel_output = (attend(q, k, v, longest={torch.float32: longest}) for longest in (64, 0))
    torch.testing.assert_close(written, kernel_output)
    assert not torch.equal(written, kernel_output)
    usual = kernel_of(q, k, v)
    assert kernel_of(q, k, v, longest={torch.bfloat16: 0 if usual == "written out" else 1 << 20}) == usual
