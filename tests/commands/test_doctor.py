"""`ldm doctor` names what is slow or wrong on a machine, with the command that helps."""

from __future__ import annotations

import json
from collections import namedtuple
from pathlib import Path

import pytest

from open_ldm.cli.main import main
from open_ldm.commands import doctor
from open_ldm.core import known_traps
from open_ldm.core.known_traps import TRAPS, traps_in

ROOT = Path(__file__).parents[2]
Usage = namedtuple("Usage", "total used free")


def test_it_looks_at_everything_and_leaves_nothing_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--out", str(tmp_path), "--json"])
    found = json.loads(capsys.readouterr().out)["findings"]
    assert ended.value.code == int(any(one["level"] == "wrong" for one in found))
    assert {"versions", "device", "processor", "matrix products", "disk", "extras"} <= {one["about"] for one in found}
    assert all(one["fix"] for one in found if one["level"] in ("slow", "wrong"))
    assert not list(tmp_path.iterdir())


def test_words_are_printed_with_their_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: Usage(10**9, 0, 10**9))
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--out", str(tmp_path / "not" / "there")])
    lines = capsys.readouterr().out.splitlines()
    (at,) = [number for number, line in enumerate(lines) if line.startswith(f"wrong disk: {tmp_path}: 1 GB free, writes ")]
    assert lines[at + 1].startswith("      fix: free some space") and ended.value.code == 1


def test_torchvision_for_another_torch_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "requires", lambda _: ["numpy", "torch==2.9.0", "pillow"])
    installed = {"torchvision": "0.24.0", "torch": "2.13.0+cpu"}
    (finding,) = doctor._torchvision(installed)
    assert finding.level == "wrong" and "built for torch 2.9.0, and torch is 2.13.0" in finding.found
    assert not list(doctor._torchvision({**installed, "torch": "2.9.0"})) and not list(doctor._torchvision({}))


def test_a_small_shared_memory_and_busy_cores_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: Usage(64_000_000, 0, 64_000_000))
    if Path("/dev/shm").is_dir():
        assert [each.fix for each in doctor._memory() if each.level == "wrong"] == [
            "start the container with --shm-size=1g, or train with data.workers=0"
        ]
    monkeypatch.setattr(doctor.os, "getloadavg", lambda: (9.0, 9.0, 9.0), raising=False)
    assert "shared cores" in [each.about for each in doctor._processor()]


def test_extras_that_are_absent_are_named() -> None:
    finding = doctor._extras({"transformers": "5.0"})
    assert finding.fix == "pip install 'open-ldm[autoencoders,data]'"


def test_traps_are_those_of_the_installed_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    def libraries(**installed: str) -> list[str]:
        return [trap.library for trap, _ in traps_in(installed)]

    assert libraries(datasets="5.2.0") == ["datasets"] and libraries(datasets="5.20.0") == [] == libraries(torch="2.13.0")
    assert len(libraries(diffusers="0.40.1")) == 2 and len(libraries(diffusers="0.42.1")) == 1
    monkeypatch.setattr(known_traps.sys, "version_info", (3, 12, 0))
    assert libraries(tifffile="2026.3.3") == []


def test_a_trap_from_a_finding_names_one_that_is_there() -> None:
    sources = [trap.source for trap in TRAPS if trap.source.startswith("findings/")]
    assert sources and all((ROOT / source).is_file() for source in sources)
