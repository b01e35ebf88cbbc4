"""The GPU benchmark's cells run on a CPU at toy size: one here, all of them with LDM_GPU_TOY=1 (minutes)."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
MODULES = ("gpu", "gpu_speed", "gpu_truth", "gpu_wheels", "train_step", "contender", "contenders", "made_ahead", "cache")
pytest.importorskip("diffusers")


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """benchmarks/gpu.py, imported anew."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu

    yield gpu
    for name in MODULES:
        sys.modules.pop(name, None)


def results(folder: Path) -> dict[str, dict[str, object]]:
    return dict(json.loads((folder / "RESULTS.json").read_text()))


def test_cells_are_written_one_by_one_and_a_failure_stops_none(
    benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def good(where: object) -> dict[str, int]:
        seen.append(len(results(tmp_path)) if (tmp_path / "RESULTS.json").exists() else 0)
        return {"figure": 7}

    def bad(where: object) -> dict[str, int]:
        raise RuntimeError("no such kernel")

    cell = benchmark.Cell
    cells = [cell("a", 1, good), cell("b", 1, bad), cell("c", 1, good), cell("d", 1e9, good)]
    monkeypatch.setattr(benchmark, "all_cells", lambda: cells)
    assert benchmark.main(["--out", str(tmp_path), "--device", "cpu", "--toy"]) == 1
    found = results(tmp_path)
    assert found["a"]["figure"] == found["c"]["figure"] == 7 and seen == [0, 2]
    assert found["b"]["failed"] == "RuntimeError: no such kernel"
    assert "s left" in str(found["d"]["left_out"])
    cells[:] = [cell("slow", 0, lambda where: time.sleep(60)), cell("after", 1, good)]
    assert benchmark.main(["--out", str(tmp_path / "slow"), "--device", "cpu", "--toy", "--limit", "0.2"]) == 1
    found = results(tmp_path / "slow")
    assert found["slow"]["failed"] == "TimeoutError: no time is left" and "s left" in str(found["after"]["left_out"])


def test_the_machine_and_encoding_run_at_toy_size(benchmark: ModuleType, tmp_path: Path) -> None:
    chosen = [] if os.environ.get("LDM_GPU_TOY") else ["--cells", "machine", "encode"]
    code = benchmark.main(["--out", str(tmp_path), "--device", "cpu", "--toy", *chosen, "--limit", "100000"])
    found = results(tmp_path)
    assert code == 0, found
    assert float(str(found["machine"]["peak_tflops"])) > 0 and float(str(found["encode"]["pictures_per_second"])) > 0
    assert all(cell.get("bit_equal", True) and cell.get("sampled_finite", True) for cell in found.values())


def test_truth_comes_first_and_everything_fits_into_eight_minutes(benchmark: ModuleType) -> None:
    cells = benchmark.all_cells()
    names = [cell.name for cell in cells]
    truths = [name for name in names if name.startswith("truth/")]
    assert names[1 : 1 + len(truths)] == truths and len(truths) % 5 == 0 and len(truths) >= 5
    assert sum(cell.seconds for cell in cells if cell.name.startswith("truth/")) <= 90
    assert sum(cell.seconds for cell in cells) <= benchmark.LIMIT_SECONDS


def test_wheels_are_what_is_needed_and_not_there(benchmark: ModuleType) -> None:
    import gpu_wheels

    roots = [*gpu_wheels.own_requirements(), *gpu_wheels.BESIDE]
    everything = gpu_wheels.needed(roots, have=[])
    assert {"pydantic", "pydantic-core", "typer", "diffusers", "safetensors"} <= set(everything)
    assert not {"torch", "numpy", "torchvision"} & set(everything)
    assert not any(name.startswith("nvidia-") for name in everything)
    fewer = gpu_wheels.needed(roots, have=["Pydantic_Core", "typer", "diffusers"])
    assert "pydantic" in fewer and not {"pydantic-core", "typer", "diffusers"} & set(fewer)
    assert gpu_wheels.pins()["safetensors"]


def test_what_is_made_ahead_is_counted(benchmark: ModuleType, tmp_path: Path) -> None:
    import made_ahead

    file = tmp_path / "ahead.json"
    small = ["--batch", "2", "--updates", "3", "--rounds", "1", "--tokens", "3", "8", "--device-ms", "1"]
    made_ahead.main([*small, "--json", str(file)])
    assert [row["depth"] for row in json.loads(file.read_text())] == [0, 2]
