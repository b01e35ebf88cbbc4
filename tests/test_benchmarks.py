"""The speed comparison runs, and both sides are the same size and learn the same thing. No timing is judged."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from open_ldm.denoisers.base import SIZES, Geometry

MODELS = ("dit", "mdtv2", "mmdit", "pixart", "unet")
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
pytest.importorskip("diffusers")


@pytest.fixture
def train_step(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """benchmarks/train_step.py with a size that takes milliseconds."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setitem(SIZES, "XS", Geometry(depth=4, width=32, heads=2))
    import train_step

    monkeypatch.setattr(train_step, "PEAK_SIDE", 64)

    yield train_step
    for name in ("train_step", "contender", "contenders", *(f"contend_{kind}" for kind in MODELS)):
        sys.modules.pop(name, None)


def test_the_cache_benchmark_reads_what_it_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import cache

    for name, value in {"TOKENS": 3, "WIDTH": 4, "ROUNDS": 1, "LATENT": (4, 2, 2)}.items():
        monkeypatch.setattr(cache, name, value)
    file = tmp_path / "cache.json"
    cache.main(["--samples", "40", "--batch", "8", "--threads", "0", "2", "--folder", str(tmp_path), "--json", str(file)])
    sys.modules.pop("cache", None)
    rates = json.loads(file.read_text())["rates"]
    assert [rate["threads"] for rate in rates] == [0, 2]
    assert all(rate["samples_per_second"] > 0 and rate["bare_processor_us"] > 0 for rate in rates)
    assert "2 threads:" in capsys.readouterr().out
    assert not list(tmp_path.glob("tmp*"))


def test_the_report_names_both_sides_and_the_machine(
    train_step: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "step.json"
    arguments = ["--size", "XS", "--side", "4", "--batch", "2", "--steps", "2", "--device", "cpu", "--json", str(file)]
    train_step.main(arguments)
    report = json.loads(file.read_text())
    assert [(cell["model"], cell["dtype"]) for cell in report["cells"]] == [
        ("dit-XS/2", "float32"),
        ("dit-XS/2", "bf16"),
        ("mdtv2-XS/2", "float32"),
        ("mdtv2-XS/2", "bf16"),
        ("mmdit-XS/2", "float32"),
        ("mmdit-XS/2", "bf16"),
        ("pixart-XS/2", "float32"),
        ("pixart-XS/2", "bf16"),
        ("unet-XS", "float32"),
        ("unet-XS", "bf16"),
    ]
    for cell in report["cells"]:
        ours, peer = cell["ours"], cell["peer"]
        assert cell["ratio"] == pytest.approx(cell["work"] * peer["median_seconds"] / ours["median_seconds"])
        assert (cell["work"] == 1) == (cell["model"] != "mdtv2-XS/2")
        for side in (ours, peer):
            assert side["lower_quartile_seconds"] <= side["median_seconds"] <= side["upper_quartile_seconds"]
            assert side["pictures_per_second"] == pytest.approx(2 / side["median_seconds"])
    assert report["torch"] == torch.__version__
    assert report["threads"] == torch.get_num_threads()
    printed = capsys.readouterr().out
    assert "diffusers" in printed
    assert f"ratio {report['cells'][0]['ratio']:.2f}" in printed


@pytest.mark.parametrize("model", ["dit", "mdtv2", "mmdit", "pixart"])
def test_both_sides_have_the_same_size_and_learn(train_step: ModuleType, model: str) -> None:
    contenders = sys.modules["contenders"]
    both = contenders.build(sys.modules["contender"].Setting(model, "XS", 2, 4, torch.device("cpu"), torch.float32))
    for side in (both.ours, both.peer):
        losses = [float(side.step()) for _ in range(12)]
        assert losses[-1] < losses[0]
        assert all(parameter.grad is None for parameter in side.parameters)
    assert both.same_work == (model != "mdtv2")
    assert both.ours.parameter_count == pytest.approx(both.peer.parameter_count, rel=0.01 if both.same_work else 0.5)


def test_mdtv2_counts_both_of_its_passes(train_step: ModuleType) -> None:
    contenders = sys.modules["contenders"]
    both = contenders.build(sys.modules["contender"].Setting("mdtv2", "XS", 2, 4, torch.device("cpu"), torch.float32))
    D, tokens, kept, batch = 32, 4, 2, 2  # int(4 * 0.6) of 4 tokens are kept

    def blocks(count: int, seen: int) -> int:
        return batch * count * (seen * 12 * D * D + 2 * seen**2 * D + 6 * D * D)

    joins = batch * (3 * tokens + kept + 2 * tokens) * 2 * D * D  # an out block and two decoder blocks in each pass
    both_passes = blocks(4, tokens) + blocks(2, kept) + blocks(3, tokens) + joins  # one side block
    assert 6 * both_passes < train_step._flops(both.ours) < 1.2 * 6 * both_passes  # the rest: time, patches, final layer


def test_operations_are_counted_with_attention(train_step: ModuleType) -> None:
    contenders = sys.modules["contenders"]
    both = contenders.build(sys.modules["contender"].Setting("dit", "XS", 2, 4, torch.device("cpu"), torch.float32))
    D, tokens, batch = 32, 4, 2
    per_token = 12 * D * D + 2 * tokens * D  # q, k, v, projection, MLP; the two products of attention
    blocks = 4 * 3 * 2 * batch * tokens * per_token  # four blocks, forward and two backward products, two operations each
    modulation = 4 * 3 * 2 * batch * 6 * D * D
    assert blocks + modulation < train_step._flops(both.ours) < 1.5 * (blocks + modulation)  # the rest: time and patches


def test_the_shared_machine_benchmark_reports_ratios_within_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/proc/stat").exists():
        pytest.skip("it reads /proc")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import shared_machine

    sys.modules.pop("shared_machine", None)
    assert shared_machine.interval(range(15)) == (7, 3, 11)  # by ranks: 4 and 12 of 15
    assert shared_machine.interval([5.0, 1.0, 3.0]) == (3.0, 1.0, 5.0)
    sides = [shared_machine.Side(name, None, None, rates={"quiet": quiet, "shared": shared}) for name, quiet, shared in SIDES]
    found = shared_machine.report(sides, [0.0, 0.4, 0.1])
    assert found["others_cores"] == 0.1 and found["most_others_cores"] == 0.4
    assert found["sides"]["b"]["shared_of_quiet"][0] == 0.5 and found["sides"]["b"]["quiet_of_first"] == [0.9, 0.8, 1.0]
    whole, ours = shared_machine.processor_seconds({os.getsid(0)})
    assert whole >= ours > 0


SIDES = [("a", [100.0, 200.0, 300.0], [10.0, 20.0, 30.0]), ("b", [90.0, 160.0, 300.0], [45.0, 80.0, 150.0])]
