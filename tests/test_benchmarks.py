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

    monkeypatch.setattr(train_step, "cores_of_others", lambda: 0.75)

    yield train_step
    for name in ("train_step", "contender", "contenders", "reach", *(f"contend_{kind}" for kind in MODELS)):
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
            assert side["gflops_per_second"] > 0 and side["share_of_reachable"] > 0
        assert cell["busy_cores"] == 0.75 and cell["peer_as"] == "shipped"
    assert report["torch"] == torch.__version__
    assert report["threads"] == torch.get_num_threads()
    printed = capsys.readouterr().out
    assert "diffusers" in printed
    assert f"ratio {report['cells'][0]['ratio']:.2f}" in printed and "BESIDE 0.8 BUSY CORES" in printed


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


@pytest.fixture
def bench(train_step: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """benchmarks/bench.py on a machine whose other programs use no core."""
    import bench as found

    monkeypatch.setattr(found, "cores_of_others", lambda: 0.0)
    yield found
    sys.modules.pop("bench", None)


def test_the_bench_writes_after_each_cell_and_goes_on(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, seen = tmp_path / "bench.json", []

    def cell(name: str) -> bench.Job:  # type: ignore[name-defined]
        def measure(seconds: float) -> dict[str, float]:
            seen.append(name)
            if len(seen) > 1:
                assert seen[0] in json.loads(file.read_text())["cells"]
            if name == "bad" and seen.count("bad") == 1:
                raise OSError("no room")
            return {"given": seconds}

        return bench.Job(name, "step", measure)

    jobs = [cell("one"), cell("bad"), cell("two")]
    content = bench.run(jobs, file, 1.0, refuse_busy=True)
    assert seen == ["one", "bad", "two"] and content["cells"]["bad"]["error"] == "OSError: no room"
    assert 19 < content["cells"]["one"]["given"] <= 20 < content["cells"]["two"]["given"] <= 60  # what others leave is used
    bench.run(jobs, file, 1.0, refuse_busy=True)
    assert seen[3:] == ["bad"] and "error" not in json.loads(file.read_text())["cells"]["bad"]
    monkeypatch.setattr(bench, "cores_of_others", lambda: 1.5)
    busy = bench.run([cell("three")], file, 1.0, refuse_busy=True)["cells"]["three"]
    assert busy["error"].startswith("refused: other programs use 1.5 cores") and "three" not in seen
    assert bench.run([cell("three")], file, 1.0, refuse_busy=False)["cells"]["three"]["marked"] == "beside others"
    with pytest.raises(SystemExit, match=r"bench\.json holds cells of size S \(now XS\); fix: move it away"):
        bench.run([cell("three")], file, 1.0, refuse_busy=False, size="XS")
    monkeypatch.setattr(bench, "code_here", lambda: "another")
    with pytest.raises(SystemExit, match=r"holds cells of code \w+ \(now another\)"):
        bench.run([cell("three")], file, 1.0, refuse_busy=False)


def test_the_bench_measures_evaluations_and_encoding_by_turns(bench: ModuleType, tmp_path: Path) -> None:
    jobs = list(bench.jobs_of(["sampling", "encode"], "XS", ["float32"], compiled=False))
    cells = bench.run(jobs, tmp_path / "bench.json", 0.001, refuse_busy=False)["cells"]
    assert list(cells) == ["sampling dit float32", "sampling mmdit float32", "encode"]
    for cell in cells.values():
        assert cell["rounds"] == 2 and cell["seconds"].keys() == {"open-ldm", "diffusers"}
        low, middle, high = cell["ratio"]
        assert 0 < low <= middle <= high and "ratio" in bench.shown(cell)
    names = [job.name for job in bench.jobs_of(bench.PARTS, "S", ["float32", "bf16"], compiled=True)]
    assert len(names) == len(set(names)) == 20 + 4 + 4 and "step unet bf16 compiled" in names


def test_the_reachable_speed_is_that_of_the_networks_shapes(train_step: ModuleType) -> None:
    import reach

    layer = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Flatten(2), torch.nn.Linear(64, 5))
    shapes = reach.shapes_of(layer, lambda: layer(torch.rand(2, 3, 8, 8)))
    assert shapes == {("product", 8, 64, 5): 1, ("convolution", (2, 3, 8, 8), (4, 3, 3, 3), (1, 1), (1, 1)): 1}
    _, operations = reach._work(("convolution", (2, 3, 8, 8), (4, 3, 3, 3), (1, 1), (1, 1)), torch.device("cpu"), torch.float32)
    assert operations == 2 * 2 * 4 * 64 * 27
    assert reach.reachable_speed(shapes, torch.device("cpu"), torch.float32) > 0


def test_the_page_is_made_from_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import bench_page

    sys.modules.pop("bench_page", None)
    side = {"lower_quartile_seconds": 0.1, "median_seconds": 0.2, "upper_quartile_seconds": 0.3}
    ours = {**side, "gflops_per_second": 40.0, "share_of_reachable": 0.5}
    cell = {"busy_cores": 0.1, "date": "2026-01-02T03:04:05"}
    cells = {
        "step dit float32": {**cell, "ratio": 1.25, "batch": 8, "ours": ours, "peer": side},
        "encode": {**cell, "seconds": {"a": [1, 2, 3], "b": [2, 4, 6]}, "ratio": [1.9, 2.0, 2.1], "marked": "beside others"},
        "trainer": {**cell, "whole_seconds": 3, "samples_per_second": [80, 90, 95], "updates_alone_per_second": 100},
        "shared": {**cell, "sides": {"ldm": {"shared_of_quiet": [0.44, 0.4, 0.5]}}},
        "start": {**cell, "error": "OSError: no room"},
    }
    content = {"machine": {"processor": "A processor", "threads": 2, "cores": 4, "torch": "2"}, "cells": cells}
    page = tmp_path / "page.md"
    page.write_text(f"Above.\n{bench_page.BEGIN}\nold\n{bench_page.END}\nBelow.\n")
    bench_page.update(page, content)
    text = page.read_text()
    assert text.startswith("Above.\n") and text.endswith("Below.\n") and "old" not in text and "A processor, 2 threads" in text
    rows = {line.split(" | ")[0][2:]: line for line in text.splitlines() if line.startswith("| ")}
    assert "100, 200, 300 ms for 8" in rows["step dit float32"] and "| 1.25 | 40 GFLOP/s, 50% |" in rows["step dit float32"]
    assert "2.00 (1.90 to 2.10)" in rows["encode"] and "0.1 (marked)" in rows["encode"]
    assert "| 0.90 |" in rows["trainer"] and "shared/quiet 0.44" in rows["shared"] and "OSError: no room" in rows["start"]
    assert len({line.count("|") for line in rows.values()}) == 1
    (empty := tmp_path / "empty.md").write_text("nothing")
    with pytest.raises(SystemExit, match="lacks"):
        bench_page.update(empty, content)
