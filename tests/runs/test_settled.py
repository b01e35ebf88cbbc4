"""What a run chooses by its machine is chosen once, kept in its manifests and used again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from open_ldm.autoencoders import LatentStats
from open_ldm.autoencoders.identity import IdentityAutoencoder
from open_ldm.commands.dry_run import dry_run
from open_ldm.core import threads
from open_ldm.core.device import Machine
from open_ldm.core.distributed import World
from open_ldm.core.errors import OutOfMemoryError
from open_ldm.core.events import read_events
from open_ldm.denoisers.blocks.attention import Attention
from open_ldm.model.knowledge import Knowledge
from open_ldm.model.noising import ObjectiveInputs
from open_ldm.runs import settled
from open_ldm.runs.build import build_trainer
from open_ldm.runs.held_out import HeldOutPictures
from open_ldm.runs.load import load_model
from open_ldm.runs.made_batch import made_batch
from open_ldm.runs.memory import Memory
from open_ldm.runs.recipe import load_recipe
from open_ldm.runs.settled import Settled, settle_choices
from open_ldm.runs.train import train
from open_ldm.training import muon
from open_ldm.training.trainer import DiffusionTrainer
from tests.runs.tiny import tiny_recipe

CPU = Machine(torch.device("cpu"), torch.float32)
MEMORY = Memory(weights=10, gradients=10, optimizer=20, average=10, copies=0, picture=10)


def saved(run: Path) -> dict[str, Any]:
    newest = max((run / "checkpoints").iterdir())
    return dict(json.loads((newest / "MANIFEST.json").read_text())["fingerprint"])


def test_auto_takes_the_largest_that_fits_and_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = ["training.samples=8", "training.micro_batch_size=auto", "preview.count=1"]
    recipe = load_recipe(str(tiny_recipe(tmp_path)), changes)
    monkeypatch.setattr(settled, "_memory", lambda *given: MEMORY)
    monkeypatch.setattr(settled, "available_bytes", lambda machine: 90)  # 70 of 81 with two pictures
    train(recipe, tmp_path / "run", silent=True)
    assert saved(tmp_path / "run")["micro_batch_size"] == "2"
    monkeypatch.setattr(settled, "available_bytes", lambda machine: 10_000)
    longer = load_recipe(str(tiny_recipe(tmp_path)), [*changes, "training.samples=12"])
    train(longer, tmp_path / "run", silent=True)
    assert saved(tmp_path / "run")["micro_batch_size"] == "2"
    assert '"bitwise": "yes"' in (tmp_path / "run" / "events.jsonl").read_text()


def test_muon_goes_on_in_the_format_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = ["training.samples=8", "training.optimizer.muon={}", "preview.count=1"]
    monkeypatch.setattr(settled, "products_on", lambda device: torch.bfloat16)
    train(load_recipe(str(tiny_recipe(tmp_path)), changes), tmp_path / "run", silent=True)
    assert saved(tmp_path / "run")["muon"] == "bfloat16"
    monkeypatch.setattr(settled, "products_on", lambda device: torch.float32)
    seen = []
    really = muon.orthogonal_factors
    monkeypatch.setattr(muon, "orthogonal_factors", lambda x: seen.append(x.dtype) or really(x))
    train(load_recipe(str(tiny_recipe(tmp_path)), [*changes, "training.samples=12"]), tmp_path / "run", silent=True)
    assert set(seen) == {torch.bfloat16} and saved(tmp_path / "run")["muon"] == "bfloat16"
    assert '"bitwise": "yes"' in (tmp_path / "run" / "events.jsonl").read_text()


def test_processes_take_a_format_of_muon_that_all_chips_multiply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = dry_run(load_recipe(str(tiny_recipe(tmp_path)), ["training.optimizer.muon={}"]))
    monkeypatch.setattr(settled, "products_on", lambda device: torch.bfloat16)
    alone = settle_choices(run.recipe, run.facts, CPU, World(), None)
    assert alone.muon == torch.bfloat16 and alone.traits["muon"] == "bfloat16"
    really = World.gathered

    def gathered(self: World, value: Any, what: str) -> list[Any]:
        return [value, torch.float32] if what == "the format of Muon" else really(self, value, what)

    monkeypatch.setattr(World, "gathered", gathered)
    assert settle_choices(run.recipe, run.facts, CPU, World(), None).muon == torch.float32
    assert settle_choices(run.recipe, run.facts, CPU, World(), {"muon": "bfloat16"}).muon == torch.bfloat16
    assert settle_choices(run.recipe, run.facts, CPU, World(), {}).traits == {}


@pytest.mark.parametrize(("free", "size", "words"), [(10_000, 4, "the largest that fits"), (10, 1, "not even that fits")])
def test_auto_says_what_it_chose(free: int, size: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = dry_run(load_recipe(str(tiny_recipe(tmp_path)), ["training.micro_batch_size=auto"]))
    monkeypatch.setattr(settled, "_memory", lambda *given: MEMORY)
    monkeypatch.setattr(settled, "available_bytes", lambda machine: free)
    chosen = settle_choices(run.recipe, run.facts, CPU, World(), None)
    assert chosen.micro_batch_size == size and words in chosen.said


def test_padding_noise_is_counted_on_an_accelerator_and_stays_what_it_was(tmp_path: Path) -> None:
    run = dry_run(load_recipe(str(tiny_recipe(tmp_path))))
    card = replace(CPU, device=torch.device("meta"))  # any device that is not a CPU
    new, old = (settle_choices(run.recipe, run.facts, card, World(), before) for before in (None, {"torch": "2.13"}))
    assert new.counted_padding and new.traits == {"padding_noise": "counted"}
    assert not old.counted_padding and old.traits == {}
    assert settle_choices(run.recipe, run.facts, CPU, World(), {**new.traits}).counted_padding
    assert not settle_choices(run.recipe, run.facts, CPU, World(), None).counted_padding
    unpadded = load_recipe(str(tiny_recipe(tmp_path)), ["conditioning.semantic.padding=zero"])
    assert not settle_choices(unpadded, run.facts, card, World(), None).counted_padding


def test_counted_padding_reaches_the_model_when_it_is_used_and_any_split_has_the_same(tmp_path: Path) -> None:
    run = dry_run(load_recipe(str(tiny_recipe(tmp_path))))
    known = Knowledge(run.facts, LatentStats((0.0,) * 3, (1.0,) * 3))

    def trainer(counted: bool) -> DiffusionTrainer:
        return build_trainer(run.recipe, known, CPU, World(), counted_padding=counted)

    def ready(start: int, count: int) -> ObjectiveInputs:
        noising = counting.noising
        made = noising.draw(made_batch(run.recipe, start, count, CPU.device))
        assert made.inputs.padding_noise is None  # it would fill the device's memory while the batch waits
        return noising.padded(made)

    counting, drawing = trainer(True), trainer(False)
    whole, parts = ready(0, 4), [ready(0, 1), ready(1, 3)]
    assert whole.inputs.padding_noise is not None
    assert whole.inputs.padding_noise.shape == (4, 10, 16)
    assert torch.equal(whole.inputs.padding_noise, torch.cat([part.inputs.padding_noise for part in parts]))  # type: ignore[misc]
    batch = made_batch(run.recipe, 0, 4, CPU.device)
    batch = replace(batch, text=replace(batch.text, mask=torch.arange(10).lt(3).expand(4, 10)))  # type: ignore[type-var]
    seen: list[torch.Tensor] = []
    for each in (counting, drawing):
        each.state.model.conditioning.register_forward_hook(lambda module, given, found: seen.append(found.context))
        assert torch.isfinite(each.losses(batch)).all()
    assert torch.equal(seen[0][:, :3], seen[1][:, :3]) and not torch.equal(seen[0][:, 3:], seen[1][:, 3:])


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:128] . DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
    ],
)
def test_lack_of_memory_names_the_size_that_fits(error: Exception) -> None:
    choices = Settled(False, {}, None, None, 90, lambda: MEMORY)
    with (
        pytest.raises(OutOfMemoryError, match=r"micro-batches of 8 .*; fix: training\.micro_batch_size=2$") as raised,
        choices.naming_what_fits(8),
    ):
        raise error
    assert raised.value.exit_code == 71
    with (
        pytest.raises(OutOfMemoryError, match=r"fix: training\.micro_batch_size=4$"),
        replace(choices, free=None).naming_what_fits(8),
    ):
        raise error
    with pytest.raises(OutOfMemoryError, match=r"fix: a smaller denoiser\.size"), choices.naming_what_fits(1):
        raise error


def test_other_errors_stay_what_they_are() -> None:
    with (
        pytest.raises(RuntimeError, match="shapes differ"),
        Settled(False, {}, None, 4, 90, lambda: MEMORY).naming_what_fits(4),
    ):
        raise RuntimeError("shapes differ")


def test_a_run_keeps_the_threads_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe(str(tiny_recipe(tmp_path)), ["training.samples=8", "preview.count=1"])
    train(recipe, tmp_path / "run", silent=True)
    began = int(saved(tmp_path / "run")["threads"])
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "usable_cores", lambda: began + 1)
    torch.set_num_threads(began + 1)
    try:
        longer = load_recipe(str(tiny_recipe(tmp_path)), ["training.samples=12", "preview.count=1"])
        train(longer, tmp_path / "run", silent=True)
        assert torch.get_num_threads() == began
    finally:
        torch.set_num_threads(began)
    told = [event for event in read_events(tmp_path / "run" / "events.jsonl") if event.name in ("resume", "warning")]
    assert told[0].text("bitwise") == "yes"
    assert any(f"{began} threads, with which this run began" in event.text("message") for event in told[1:])


def lacking(*given: object, **named: object) -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize(
    ("where", "fix"),
    [
        ((DiffusionTrainer, "restore"), "training.micro_batch_size=2"),
        ((DiffusionTrainer, "losses"), "training.micro_batch_size=2"),
        ((IdentityAutoencoder, "decode"), "sampling.batch_size=2, or ldm sample --batch 2"),
        ((HeldOutPictures, "loss"), "held_out=null, or a smaller denoiser.size"),
    ],
    ids=["weights", "update", "preview", "evaluation"],
)
def test_lack_of_memory_is_named_wherever_it_comes(
    where: tuple[type, str], fix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = ["data.holdout={share: 0.2}", "held_out={every_samples: 16}", "training.preview_every_samples=16"]
    recipe = load_recipe(str(tiny_recipe(tmp_path)), [*changes, "training.samples=16"])
    if where[1] == "restore":
        train(recipe, tmp_path / "run", silent=True)
    with monkeypatch.context() as patch, pytest.raises(OutOfMemoryError, match="out of memory") as raised:
        patch.setattr(*where, lacking)
        train(recipe, tmp_path / "run", silent=True)
    assert raised.value.fix == fix and raised.value.exit_code == 71
    exit_file = json.loads((tmp_path / "run" / "exit.json").read_text())
    assert exit_file["code"] == 71 and exit_file["hint"] == fix


def test_the_kernel_of_attention_is_chosen_once_and_sampled_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def longest(run: Path) -> set[str]:
        found = (module.longest for module in load_model(run).model.modules() if isinstance(module, Attention))
        return {repr(each) for each in found}

    recipe = load_recipe(str(tiny_recipe(tmp_path)), ["training.samples=8", "preview.count=1"])
    train(recipe, tmp_path / "short", silent=True)
    assert settled.WRITTEN_OUT not in saved(tmp_path / "short")  # too few keys to measure anything
    assert longest(tmp_path / "short") == {"{}"}
    monkeypatch.setattr(settled, "SHORT", 1)
    monkeypatch.setattr(settled, "longest_written_out", lambda machine: 512)
    train(recipe, tmp_path / "run", silent=True)
    assert saved(tmp_path / "run")[settled.WRITTEN_OUT] == "float32 512"
    monkeypatch.setattr(settled, "longest_written_out", lambda machine: 0)
    longer = load_recipe(str(tiny_recipe(tmp_path)), ["training.samples=12", "preview.count=1"])
    train(longer, tmp_path / "run", silent=True)
    assert saved(tmp_path / "run")[settled.WRITTEN_OUT] == "float32 512"
    assert '"bitwise": "yes"' in (tmp_path / "run" / "events.jsonl").read_text()
    assert longest(tmp_path / "run") == {"{torch.float32: 512}"}
    train(longer, tmp_path / "short", silent=True)
    assert settled.WRITTEN_OUT not in saved(tmp_path / "short")  # as it began
