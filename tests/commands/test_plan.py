"""`ldm plan`: memory counted without allocating it is what a real pass keeps; the rest is arithmetic on it."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from open_ldm.autoencoders import LatentStats
from open_ldm.cli.main import main
from open_ldm.commands.dry_run import dry_run
from open_ldm.commands.plan import plan
from open_ldm.commands.plan.plan import micro_batches
from open_ldm.core.device import Machine
from open_ldm.core.distributed import World
from open_ldm.core.errors import ConfigError
from open_ldm.core.nested import leaves
from open_ldm.core.peak import remember_peak
from open_ldm.encoded.batch import EncodedBatch
from open_ldm.model.diffusion import build_model
from open_ldm.model.knowledge import Knowledge
from open_ldm.runs.build import build_trainer
from open_ldm.runs.made_batch import made_batch
from open_ldm.runs.memory import Memory, Waiting, held_by, memory_of, most_held
from open_ldm.runs.recipe import Recipe, load_recipe
from open_ldm.training.settings import MuonConfig, OptimizerConfig, TrainingConfig
from open_ldm.training.trainer import DiffusionTrainer
from tests.runs.tiny import DENOISERS, tiny_recipe

CPU = Machine(torch.device("cpu"), torch.float32)


def recipe(folder: Path, *changes: str) -> Recipe:
    return load_recipe(str(tiny_recipe(folder)), changes)


RECOMPUTE = {
    "none": [],
    "blocks": ["training.recompute=blocks"],
    "every second": ["training.recompute={every: 2}"],
}
NO_STATS = LatentStats((0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize("setting", RECOMPUTE)
@pytest.mark.parametrize("denoiser", DENOISERS)
def test_counted_bytes_are_those_that_a_real_update_takes(denoiser: str, setting: str, tmp_path: Path) -> None:
    run = dry_run(recipe(tmp_path, *DENOISERS[denoiser], *RECOMPUTE[setting]))
    trainer = build_trainer(run.recipe, Knowledge(run.facts, NO_STATS), CPU, World())
    taken = most_bytes(trainer, made_batch(run.recipe, 0, 3, CPU.device))
    assert most_held(run.recipe, run.facts, 3, torch.float32) == pytest.approx(taken, rel=0.03)


@pytest.mark.parametrize("denoiser", DENOISERS)
def test_on_fake_tensors_as_on_real_ones_and_for_any_number_of_pictures(denoiser: str, tmp_path: Path) -> None:
    dtype = torch.bfloat16
    run = dry_run(recipe(tmp_path, *DENOISERS[denoiser], *RECOMPUTE["blocks"]))
    real = held_by(build_model(run.recipe.model_spec(run.facts), 0).compute_in(dtype), run.recipe, 3)
    assert most_held(run.recipe, run.facts, 3, dtype) == real
    memory = memory_of(run.recipe, run.facts, run.parameters, dtype)
    assert memory.copies + 3 * memory.picture == pytest.approx(real, rel=0.02)
    assert memory.total(0) - memory.copies == 20 * run.parameters


def most_bytes(trainer: DiffusionTrainer, batch: EncodedBatch) -> int:
    """The most that forward and backward pass hold, by the allocator, besides the gradients they add to."""
    trainer._gradients()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        trainer._accumulate_gradients([batch])
    held, most = 0, 0
    events = seen.profiler.kineto_results.events()
    for change in sorted((each for each in events if each.name() == "[memory]"), key=lambda each: each.start_ns()):
        held += change.nbytes()
        most = max(most, held)
    return most


def test_the_largest_micro_batch_fits_and_divides() -> None:
    memory = Memory(weights=10, gradients=10, optimizer=20, average=10, copies=0, picture=10)
    assert memory.total(5) == 100
    sizes = micro_batches(TrainingConfig(samples=48, batch_size=48, checkpoint_every_samples=48), devices=2)
    assert sizes == [1, 2, 3, 4, 6, 8, 12, 24]
    assert memory.largest(sizes, 200) == 12  # 170 of 180
    assert memory.largest(sizes, 60) is None
    with pytest.raises(ConfigError, match="cannot be shared by 5 devices"):
        micro_batches(TrainingConfig(samples=48, batch_size=48, checkpoint_every_samples=48), devices=5)


def test_updates_are_timed_where_they_fit_and_computed_where_they_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = dry_run(recipe(tmp_path))
    timed = plan(run)
    with monkeypatch.context() as patched:
        patched.setattr(import_module("open_ldm.commands.plan.plan"), "available_bytes", lambda machine: 10**6)
        computed = plan(run)
    assert timed.speed.measured and not computed.speed.measured and computed.seconds is not None
    assert timed.seconds == pytest.approx(96 / timed.speed.samples_per_second)
    assert computed.seconds == pytest.approx(96 / computed.speed.samples_per_second)
    assert "30% of the matrix speed" in computed.text() and "not here" not in timed.text()
    small = replace(timed, largest=2)
    assert "4 does not fit; fix: training.micro_batch_size=2" in small.text()
    assert "not even one picture fits; fix: a smaller" in replace(timed, largest=None).text()
    assert "fits; fix: training.recompute=blocks\n" in replace(timed, largest=None, largest_recomputed=4).text()
    both = "fix: training.micro_batch_size=1, or training.recompute=blocks training.micro_batch_size=2"
    assert both in replace(timed, largest=1, largest_recomputed=2).text()


@pytest.mark.parametrize("elsewhere", [{"memory_bytes": 10**9}, {"devices": 2}, {"devices": 2, "memory_bytes": 10**9}])
def test_devices_that_are_not_here_get_no_time(
    elsewhere: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("open_ldm.commands.plan.speed"), "matrix_speed", None)
    found = plan(dry_run(recipe(tmp_path)), **elsewhere)
    assert found.seconds is None and found.speed.samples_per_second is None and not found.speed.measured
    assert "speed        not known of devices that are not here" in found.text() and "\ntime " not in found.text()
    assert found.micro_batch == found.largest == 4 // found.devices
    if "memory_bytes" in elsewhere:
        assert found.memory.program == 0 and f"{found.devices} x 1.00 GB that are not here, computing as cpu" in found.text()


def test_without_measuring_nothing_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def measured(*given: Any, **more: Any) -> float:
        raise AssertionError("something was measured")

    for module, name in (("speed", "matrix_speed"), ("speed", "remember_peak"), ("plan", "measure_speed")):
        monkeypatch.setattr(import_module(f"open_ldm.commands.plan.{module}"), name, measured)
    path = tiny_recipe(tmp_path)
    for more, fix in (([], "leave --no-measure out"), (["--memory", "1"], "without --memory")):
        with pytest.raises(SystemExit):
            main(["plan", str(path), "--no-measure", *more])
        said = capsys.readouterr().out
        assert "speed        not known" in said and fix in said and "\ntime " not in said
        with pytest.raises(SystemExit):
            main(["plan", str(path), "--no-measure", "--json", *more])
        (found,) = json.loads(capsys.readouterr().out)["plans"]
        assert found["speed"]["samples_per_second"] is None and found["seconds"] is None
    remember_peak(Machine(torch.device("cpu"), torch.float32), 6e10)  # as an earlier training did
    known = plan(dry_run(recipe(tmp_path)), measure=False)
    assert known.speed.samples_per_second == pytest.approx(0.3 * 6e10 / (6e9 * known.gmacs))
    assert f"30% of the matrix speed of {known.machine}, measured before" in known.text()


def test_where_a_batch_does_not_fit_a_plan_looks_at_blocks_computed_again(tmp_path: Path) -> None:
    run = dry_run(recipe(tmp_path))
    free = int(plan(run, memory_bytes=10**9).memory.total(4) / 0.95)
    short = plan(run, memory_bytes=free)
    assert (short.largest, short.largest_recomputed) == (2, 4)
    again = plan(dry_run(recipe(tmp_path, "training.recompute=blocks")), memory_bytes=free)
    assert (again.largest, again.largest_recomputed) == (4, None)
    assert "(blocks computed again)" in again.text() and "computed again" not in short.text()


def test_a_plan_is_printed_for_every_stage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    staged = tmp_path / "staged.yaml"
    path = tiny_recipe(tmp_path)
    staged.write_text(path.read_text() + "stages: [{name: one}, {name: two, data: {transform: {size_px: 32}}}]\n")
    with pytest.raises(SystemExit):
        main(["plan", str(staged), "--memory", "1", "--json"])
    plans = json.loads(capsys.readouterr().out)["plans"]
    assert [each["recipe"] for each in plans] == ["tiny-one", "tiny-two"]
    assert plans[1]["memory"]["picture"] > 2 * plans[0]["memory"]["picture"]
    with pytest.raises(SystemExit):
        main(["plan", str(path), "--no-measure"])
    assert "micro-batch  4 fits; 4 is the largest that does" in capsys.readouterr().out


def test_muon_keeps_one_running_mean_of_a_matrix(tmp_path: Path) -> None:
    run = dry_run(recipe(tmp_path).model_copy(deep=True))
    training = run.recipe.training.model_copy(update={"optimizer": OptimizerConfig(muon=MuonConfig())})
    with_muon = run.recipe.model_copy(update={"training": training})
    known = Knowledge(run.facts, LatentStats((0.0,) * 3, (1.0,) * 3))
    trainer = build_trainer(with_muon, known, Machine(torch.device("cpu"), torch.float32), World())
    trainer.update([made_batch(with_muon, 0, with_muon.training.batch_size, torch.device("cpu"))])
    held = sum(tensor.nbytes for name, tensor in trainer.state.optimizer.tensors().items() if not name.startswith("step."))
    assert memory_of(with_muon, run.facts, run.parameters, torch.float32).optimizer == held
    assert memory_of(run.recipe, run.facts, run.parameters, torch.float32).optimizer > held


def test_pictures_that_wait_are_counted(tmp_path: Path) -> None:
    run = dry_run(recipe(tmp_path))
    known = Knowledge(run.facts, LatentStats((0.0,) * 3, (1.0,) * 3))
    trainer = build_trainer(run.recipe, known, Machine(torch.device("cpu"), torch.float32), World())
    trainer.losses(made_batch(run.recipe, 0, 1, torch.device("cpu")))  # what is asked for is drawn ahead from here on
    ready = trainer.prepared(made_batch(run.recipe, 1, 1, torch.device("cpu")))
    bytes_each = sum(leaf.nbytes for leaf in leaves(ready) if isinstance(leaf, torch.Tensor))

    def memory(waiting: Waiting) -> Memory:
        return memory_of(run.recipe, run.facts, run.parameters, torch.float32, waiting=waiting)

    here, ahead = memory(Waiting(4)), memory(Waiting(4, ahead=True))
    assert here.ready == bytes_each and here.waits(2) == 4 * bytes_each and memory(Waiting()).waits(2) == 0
    assert ahead.waits(4) == 12 * bytes_each and Waiting(64, ahead=True).pictures(2) == 64 + 8 * 2
    assert ahead.total(2) - here.total(2) == 8 * bytes_each
    noise = 4 * 10 * 16  # of a caption of ten tokens, drawn when it is used
    assert memory(Waiting(4, counted=True)).ready == bytes_each - noise
    elsewhere = plan(run, memory_bytes=10**9)
    assert elsewhere.memory.waits(4) == 12 * (bytes_each - noise) and "that wait for their turn 0.1 MB" in elsewhere.text()


@pytest.mark.parametrize(("problem", "said"), [("", ", blocks compiled"), ("no compiler", "; no compiler: uncompiled")])
def test_updates_are_timed_as_they_would_be_computed(
    problem: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DiffusionTrainer, "compile", lambda trainer, batch, check: problem)
    assert plan(dry_run(recipe(tmp_path, "training.compile=on"))).speed.said.endswith(said)
    assert plan(dry_run(recipe(tmp_path))).speed.said.endswith("float32")
