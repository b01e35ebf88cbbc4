"""What a step spends its time on, and what fewer passes would gain: kinds are whole, fused forms are the same functions."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from open_ldm.denoisers.base import SIZES, Geometry

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
OWN = ("operators", "gradient_error", "fewer_passes", "step_memory", "bf16_in_float32", "contender", "contenders", "figures")
pytest.importorskip("diffusers")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Benchmarks can be imported, and size S takes milliseconds."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setitem(SIZES, "S", Geometry(depth=8, width=32, heads=2))
    yield
    for name in [*OWN, *(name for name in sys.modules if name.startswith("contend_"))]:
        sys.modules.pop(name, None)


def figures_of(module: ModuleType, tmp_path: Path, *arguments: str) -> dict[str, Any]:
    """What a benchmark writes."""
    file = tmp_path / "figures.json"
    module.main([*arguments, "--json", str(file)])
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def test_the_kinds_of_operators_are_a_whole_step(tmp_path: Path) -> None:
    import operators

    assert [operators.kind_of(name) for name in ("addmm", "add", "bmm", "copy_", "gelu_backward", "t")] == [
        *("products", "adds and multiplies", "attention", "copies", "activations", operators.REST),
    ]
    found = figures_of(operators, tmp_path, "--models", "dit", "--batch", "2", "--side", "4", "--steps", "2")
    for side in ("ours", "peer"):
        shares = found["dit"][side]["shares"]
        assert sum(shares.values()) == pytest.approx(1, abs=1e-3) and min(shares.values()) >= 0
        assert shares["products"] > 0 and shares["optimiser"] > 0 and shares["norms"] > 0
    calls = found["dit"]["ours"]["operators"]["addmm"]["calls"]
    assert calls == 8 * 5 + 5  # products with a bias: five in a block, two of time, those of patches and of the final layer
    assert found["dit"]["after_the_gradient"].keys() == {"norm", "clip", "adamw", "average", "copy"}


def test_fused_forms_are_the_same_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fewer_passes

    found = figures_of(fewer_passes, tmp_path, "--batch", "2", "--rounds", "2", "--step-rounds", "1")
    assert {name for name in found if "gain_fused" in str(found[name])} == {
        *("norm and modulation", "gate and residual", "softmax, scale and bias"),
    }
    for idea in fewer_passes.ideas_of(1).values():
        assert found["step_seconds"][idea.model] > 0
    idea = fewer_passes.ideas_of(1)["gate and residual"]
    wrong = fewer_passes.Idea(idea.model, 1, idea.shapes, idea.present, lambda x, gate, y: x + gate * y * 1.001, idea.plain)
    with pytest.raises(SystemExit, match="fused differs by"):
        fewer_passes.measure(wrong, 1, 1.0, compiled=False)


def test_gradients_are_compared_on_one_network(tmp_path: Path) -> None:
    import gradient_error

    found = figures_of(gradient_error, tmp_path, "--models", "dit", "--batch", "2", "--side", "4", "--seeds", "2")
    means = found["dit"]["means"]
    assert means.keys() == {"autocast", "torch's attention", "written out", "peer"}
    assert all(1e-4 < error < 3e-2 for error in means.values())
    assert found["dit"]["errors"][0] != found["dit"]["errors"][1]
    assert found["dit"]["of_autocast"]["written out"] == pytest.approx(means["written out"] / means["autocast"], rel=0.02)


def test_memory_is_that_of_one_side_in_a_process_of_its_own(tmp_path: Path) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("it reads /proc")
    import step_memory

    found = figures_of(step_memory, tmp_path, "--models", "dit", "--batch", "1", "--side", "4")["dit"]
    for side in ("ours", "peer"):
        assert found[side]["peak_mb"] > found[side]["above_mb"] > found[side]["step_mb"] >= 0
        assert found[side]["above_mb"] > 3 * found[side]["weights_mb"]  # with both moments; a fresh process has size S as it is
    assert found["ratio_peak"] == pytest.approx(found["ours"]["peak_mb"] / found["peer"]["peak_mb"], abs=1e-3)


def test_convolutions_in_float32_round_once() -> None:
    import bf16_in_float32

    x, weight = (torch.randn(shape).bfloat16() for shape in ((2, 8, 6, 6), (4, 8, 3, 3)))
    found = bf16_in_float32._in_float32("convolution")(x, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1)
    wanted = torch.nn.functional.conv2d(x.float(), weight.float(), padding=1)
    assert found.dtype == torch.bfloat16 and torch.equal(found, wanted.bfloat16())
