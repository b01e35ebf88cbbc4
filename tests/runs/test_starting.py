"""Runs that start from another run: what is settled, what is written down, and that they go on as any run does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from open_ldm.checkpoints.checkpoint import Checkpoint, load_checkpoint
from open_ldm.commands.dry_run import dry_run
from open_ldm.conditioning import ConditionInputs
from open_ldm.conditioning.inputs import Conditions
from open_ldm.core.device import set_up_machine
from open_ldm.core.distributed import World
from open_ldm.core.errors import ConfigError
from open_ldm.denoisers.base import Denoiser, Prediction
from open_ldm.denoisers.blocks.positions import GridPositions, ResampledPositions
from open_ldm.model.knowledge import Knowledge
from open_ldm.process.resolution import ResolutionConfig
from open_ldm.runs.batches import live_batches
from open_ldm.runs.build import build_trainer
from open_ldm.runs.encoders import load_encoders
from open_ldm.runs.load import load_model, load_run
from open_ldm.runs.recipe import Recipe, load_recipe
from open_ldm.runs.train import train
from open_ldm.sampling.generate import SamplingConfig
from open_ldm.sampling.requests import SampleRequest
from open_ldm.sources.loader import open_data
from open_ldm.training.plan import plan_batches
from open_ldm.transfer_learning.start import Started
from tests import processes
from tests.runs.test_resume import finish, kill_at
from tests.runs.tiny import DENOISERS, TINY, losses, tiny_recipe
from tests.started import start

SHORT = ["training.samples=16", "training.checkpoint_every_samples=8"]


def recipe_of(folder: Path, *overrides: str) -> Recipe:
    return load_recipe(str(tiny_recipe(folder)), [*SHORT, *overrides])


def trained(folder: Path, name: str, *overrides: str) -> Path:
    assert train(recipe_of(folder, *overrides), folder / name, silent=True, command=["ldm", "train", "tiny"]).code == 0
    return folder / name


def at(run: Path, samples: int) -> Checkpoint:
    return load_checkpoint(run / "checkpoints" / f"samples-{samples:012d}")


def receipt(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "transfer.json").read_text())
    return content


def first_loss(recipe: Recipe, checkpoint: Checkpoint) -> float:
    """The loss that a checkpoint's raw weights have on the first batch of its recipe."""
    machine = set_up_machine("cpu", "float32", False)
    known, source = Knowledge.from_json(checkpoint.content), open_data(recipe.data)
    trainer = build_trainer(recipe, known, machine, World())
    trainer.state.model.load_state_dict(dict(checkpoint.files["model"]))
    batches = live_batches(recipe, source, known.facts, load_encoders(recipe, source, known.facts, machine))
    ranges = plan_batches(recipe.training.batch_size, None, World()).ranges(0)
    batch = next(batches.read(ranges))
    return trainer.update([batches.encoder.encode(batch)]).loss


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A caption model of 16 px, trained for 16 pictures."""
    return trained(tmp_path_factory.mktemp("source"), "run")


@pytest.mark.parametrize(("weights", "group"), [("averaged", "ema"), ("raw", "model")])
def test_to_the_same_recipe_the_weights_are_bit_equal_and_the_loss_goes_on(
    source: Path, tmp_path: Path, weights: str, group: str
) -> None:
    run = trained(tmp_path, "again", f"init_from={{source: {source}, weights: {weights}}}", "training.keep_checkpoints=3")
    there, here = at(source, 16), at(run, 0)
    for name, tensor in there.files[group].items():
        assert torch.equal(here.files["model"][name], tensor) and torch.equal(here.files["ema"][name], tensor), name
    assert {tensor["action"] for tensor in receipt(run)["tensors"]} == {"kept"}
    if weights == "raw":
        assert losses(run)[0][1] == first_loss(recipe_of(tmp_path), there)
    assert losses(run)[0][1] != losses(source)[0][1]


@pytest.mark.parametrize("name", DENOISERS)
def test_every_denoiser_goes_to_another_size_with_positions_and_noise(name: str, tmp_path: Path) -> None:
    short = ["training.samples=8", "preview.count=1", *DENOISERS[name]]
    there = trained(tmp_path, "small", *short)
    run = trained(tmp_path, "large", *short, f"init_from.source={there}", "data.transform.size_px=32")
    settled = load_model(run).recipe
    assert settled.process.resolution == ResolutionConfig(from_px=16, to_px=32)
    if name in ("dit", "mmdit", "pixart"):
        assert settled.denoiser.positions == ResampledPositions(rows=4, columns=4)
    actions = {tensor["action"] for tensor in receipt(run)["tensors"]}
    assert actions == ({"kept", "resampled"} if name == "mdtv2" else {"kept"})
    told = receipt(run)
    assert told["settings"]["data.transform.size_px"] == [16, 32]
    assert told["source"]["checkpoint"] == "samples-000000000008" and told["source"]["weights"] == "averaged"
    # A third size starts from the first one's grid and schedule, not from a copy of a copy.
    third = load_recipe(str(run), [f"init_from.source={run}", "data.transform.size_px=64", "process.resolution=null"])
    again = dry_run(third).recipe
    assert again.process.resolution == ResolutionConfig(from_px=16, to_px=64)
    if name == "dit":
        assert again.denoiser.positions == ResampledPositions(rows=4, columns=4)


class Watched(Denoiser):
    """A denoiser that answers a velocity of 1 everywhere and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[torch.Tensor, torch.Tensor]] = []

    def forward(self, x_t: torch.Tensor, time: torch.Tensor, conditions: Conditions) -> Prediction:
        self.asked.append((x_t.clone(), time.clone()))
        return Prediction(torch.ones_like(x_t))


def test_a_moved_schedule_is_stored_and_is_that_of_training_and_of_sampling(source: Path, tmp_path: Path) -> None:
    """From 16 to 32 px, k = 2: at time t the noise level is 2 t / (1 + t), and the network is told t."""
    run = trained(tmp_path, "run", f"init_from.source={source}", "data.transform.size_px=32", "training.samples=8")
    loaded = load_run(run, "cpu")
    drawing = loaded.model.denoiser = Watched()
    loaded.generator.bounds = None
    config = SamplingConfig(solver="euler", steps=2)
    loaded.generator.images(loaded.build_inputs([SampleRequest(0, "a red circle")]), [0], config)
    (first, noisiest), (second, middle) = drawing.asked
    assert (float(noisiest), float(middle)) == (1000, 500)
    torch.testing.assert_close(second, first + (2 / 3 - 1), rtol=0, atol=1e-6)  # t = 1 to 0.5 is sigma = 1 to 2/3

    recipe, known = loaded.recipe, loaded.known
    machine, data = set_up_machine("cpu", "float32", False), open_data(recipe.data)
    trainer = build_trainer(recipe, known, machine, World())
    training = trainer.state.model.denoiser = Watched()
    batches = live_batches(recipe, data, known.facts, load_encoders(recipe, data, known.facts, machine))
    batch = batches.encoder.encode(next(batches.read(plan_batches(4, None, World()).ranges(0))))
    trainer.losses(batch)
    drawn = trainer.noising.draw(batch)
    ((x_t, time),) = training.asked
    sigma = (2 * drawn.t / (1 + drawn.t)).view(-1, 1, 1, 1)
    eps = drawn.draws.normal("noise", drawn.x_0.shape[1:])
    torch.testing.assert_close(x_t, (1 - sigma) * drawn.x_0 + sigma * eps, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(time, 1000 * drawn.t)


@pytest.mark.parametrize(
    ("options", "positions", "resolution"),
    [
        ("positions: extrapolate, rescale_noise: false", GridPositions(), None),
        ("positions: resample", ResampledPositions(rows=4, columns=4), ResolutionConfig(from_px=16, to_px=(16, 64))),
    ],
)
def test_what_the_recipe_leaves_open_is_settled_by_the_source(
    source: Path, tmp_path: Path, options: str, positions: object, resolution: object
) -> None:
    recipe = recipe_of(tmp_path, f"init_from={{source: {source}, {options}}}", "data.transform.size_px=[16, 64]")
    planned = dry_run(recipe)
    assert isinstance(planned.start, Started) and "data.transform.size_px" in planned.start.text()
    assert planned.recipe.denoiser.positions == positions and planned.recipe.process.resolution == resolution  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["data.transform.size_px=32", "denoiser.positions={kind: grid, base: 8}"], "denoiser.positions=.* differs"),
        (["data.transform.size_px=32", "process.resolution={from_px: 8, to_px: 32}"], "process.resolution=.* differs"),
        (["init_from.allow=[denoiser.blocks.*]"], "no effect"),
        (["denoiser.depth=3"], r"not in the source.*--allow"),
        (["denoiser={kind: dit, size: XS, patch: 4, depth: 2, width: 32, heads: 2}"], "the source is a mmdit"),
    ],
)
def test_contradictions_are_answered_in_one_line(source: Path, tmp_path: Path, overrides: Sequence[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        train(recipe_of(tmp_path, f"init_from.source={source}", *overrides), tmp_path / "run", silent=True)
    assert "\n" not in caught.value.one_line()


def test_a_schedule_for_pictures_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"process\.resolution is for pictures of 64 px, data\.transform\.size_px is 16"):
        recipe_of(tmp_path, "process.resolution={from_px: 32, to_px: 64}")


def test_there_must_be_something_to_start_from(tmp_path: Path, source: Path) -> None:
    with pytest.raises(ConfigError, match="no run folder"):
        train(recipe_of(tmp_path, "init_from.source=nowhere"), tmp_path / "run", silent=True)
    assert dry_run(recipe_of(tmp_path, "init_from.source=nowhere")).start == "nowhere"
    averaged_only = shutil.copytree(source, tmp_path / "imported")
    newest = averaged_only / "checkpoints" / "samples-000000000016"
    shutil.rmtree(averaged_only / "checkpoints" / "samples-000000000008")
    manifest = json.loads((newest / "MANIFEST.json").read_text())
    (newest / "model.safetensors").unlink()
    del manifest["files"]["model"], manifest["manifest_sha256"]
    from open_ldm.checkpoints.files import sha256_of_content

    (newest / "MANIFEST.json").write_text(json.dumps({**manifest, "manifest_sha256": sha256_of_content(manifest)}))
    assert trained(tmp_path, "run", f"init_from.source={averaged_only}")
    with pytest.raises(ConfigError, match=r"holds no raw weights; .*weights=averaged"):
        trained(tmp_path, "raw", f"init_from={{source: {averaged_only}, weights: raw}}")


def test_captions_to_classes_and_other_latents(source: Path, tmp_path: Path) -> None:
    run = trained(tmp_path, "classes", f"init_from.source={source}", "conditioning.semantic={kind: class}")
    fates = {tensor["name"]: tensor for tensor in receipt(run)["tensors"]}
    assert fates["conditioning.semantic.table.weight"]["action"] == "new"
    assert fates["conditioning.semantic.words.weight"]["reason"] == "semantic condition text -> class"
    assert fates["denoiser.context_embedding.weight"]["reason"] == "context tokens words -> classes"
    assert load_model(run).known.facts.class_names
    inputs = ConditionInputs(torch.ones(1, dtype=torch.bool), torch.ones(1, dtype=torch.bool), labels=torch.tensor([3]))
    assert inputs.labels is not None


@pytest.mark.timeout(900)
def test_a_killed_transferred_run_ends_bit_equal_without_its_source(source: Path, tmp_path: Path) -> None:
    mine = shutil.copytree(source, tmp_path / "source")
    recipe = tiny_recipe(tmp_path)
    arguments = ["transfer", str(mine), str(recipe), "data.transform.size_px=32", "training.samples=32"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish([*arguments, "--out", str(whole)])
    process = start([*arguments, "--out", str(broken)])
    killed = kill_at(process, broken, 4)
    process.communicate()
    shutil.rmtree(mine)
    process = start([*arguments, "--out", str(broken)])
    killed += kill_at(process, broken, 20)
    process.communicate()
    finish([*arguments, "--out", str(broken)])
    assert killed == 2
    assert losses(broken) == losses(whole) and len(losses(whole)) == 8
    ends = [json.loads((run / "checkpoints/samples-000000000032/MANIFEST.json").read_text()) for run in (whole, broken)]
    assert [ends[0]["files"][name]["sha256"] for name in ends[0]["files"]] == [
        ends[1]["files"][name]["sha256"] for name in ends[1]["files"]
    ]
    config = yaml.safe_load((broken / "config.yaml").read_text())
    assert config["process"]["resolution"] == {"from_px": 16, "to_px": 32}
    assert train(load_recipe(str(broken)), broken, silent=True).samples_seen == 32  # its own config, settled, is a recipe too


@pytest.mark.timeout(600)
def test_kills_before_the_first_save_and_in_the_first_update_change_nothing(source: Path, tmp_path: Path) -> None:
    changes = [f"init_from.source={source}", "data.transform.size_px=32", *SHORT]
    whole, broken = trained(tmp_path, "whole", *changes), tmp_path / "broken"
    places = ["first receipt", "first save", "rename", "first update", "updated", "saved"]
    killed = processes.Started("tests.runs.killed_at", [str(tmp_path / "tiny.yaml"), str(broken), *places, "--", *changes])
    processes.finish([killed])
    assert losses(broken) == losses(whole) and len(losses(whole)) == 4
    for name, file in at(whole, 16).content["files"].items():
        assert at(broken, 16).content["files"][name]["sha256"] == file["sha256"], name
    assert receipt(broken) == receipt(whole)


@pytest.mark.timeout(300)
def test_two_processes_start_from_the_same_weights(source: Path, tmp_path: Path) -> None:
    recipe, more = tiny_recipe(tmp_path), ["data.transform.size_px=32", *SHORT]
    alone = train(load_recipe(str(recipe), [f"init_from.source={source}", *more]), tmp_path / "alone", silent=True)
    command = ["transfer", str(source), str(recipe), *more, "--out", str(tmp_path / "two")]
    processes.finish(processes.start_processes("open_ldm", command, 2))
    for (_, one), (_, two) in zip(losses(tmp_path / "alone"), losses(tmp_path / "two"), strict=True):
        assert one is not None and two == pytest.approx(one, rel=1e-5)
    assert alone.code == 0 and receipt(tmp_path / "two")["numbers"] == receipt(tmp_path / "alone")["numbers"]


def test_a_run_goes_on_with_its_own_positions_alone(source: Path, tmp_path: Path) -> None:
    first = [f"init_from={{source: {source}, positions: bicubic}}", "data.transform.size_px=32"]
    run, longer = trained(tmp_path, "run", *first), "training.samples=24"
    assert train(recipe_of(tmp_path, *first, longer), run, silent=True).samples_seen == 24
    with pytest.raises(ConfigError, match=r"denoiser\.positions\.base"):
        train(recipe_of(tmp_path, *first, "denoiser.positions={kind: centred}", "training.samples=32"), run, silent=True)
    stated = "denoiser.positions={kind: resample, rows: 4, columns: 4}"  # as the recipe of a source may state them
    one = trained(tmp_path, "one", f"init_from.source={source}", "data.transform.size_px=32", "training.samples=8")
    second = [f"init_from={{source: {one}, positions: bicubic}}", "data.transform.size_px=64", stated]
    two = trained(tmp_path, "two", *second, "training.samples=8")
    assert train(recipe_of(tmp_path, *second, "training.samples=12"), two, silent=True).samples_seen == 12


def test_a_run_may_be_the_recipe_but_never_its_own_start(source: Path, tmp_path: Path) -> None:
    recipe = load_recipe(str(source), [f"init_from.source={source}"])
    for begin in (source, source / "checkpoints" / "samples-000000000016"):
        itself = load_recipe(str(source), [f"init_from.source={begin}"])
        with pytest.raises(ConfigError, match=r"cannot start from itself; needed: .*; fix: choose another --out"):
            train(itself, source, silent=True)
    assert train(recipe, tmp_path / "again", silent=True).code == 0
    assert {tensor["action"] for tensor in receipt(tmp_path / "again")["tensors"]} == {"kept"}


def test_a_run_goes_on_from_its_own_source_alone(source: Path, tmp_path: Path) -> None:
    run = trained(tmp_path, "run", f"init_from.source={source}")
    moved = shutil.copytree(source, tmp_path / "moved")
    longer = [f"init_from.source={moved}", "training.samples=24"]
    assert train(recipe_of(tmp_path, *longer), run, silent=True).samples_seen == 24
    other = trained(tmp_path, "other", "training.seed=1")
    with pytest.raises(ConfigError, match=r"was started from .*, not from"):
        train(recipe_of(tmp_path, f"init_from.source={other}", "training.samples=32"), run, silent=True)
    with pytest.raises(ConfigError, match=r"was started from .*moved, not from nothing; fix: set init_from\.source=.*moved"):
        train(recipe_of(tmp_path, "training.samples=32"), run, silent=True)
    with pytest.raises(ConfigError, match=r"was started from nothing, not from .*; fix: set init_from=null"):
        train(recipe_of(tmp_path, f"init_from.source={run}"), other, silent=True)
    assert TINY["training"]["samples"] == 96
