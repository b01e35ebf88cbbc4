"""A run that keeps two averages by powers: snapshots, going on, and an average of another length."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from open_ldm.checkpoints.checkpoint import CheckpointFolder
from open_ldm.checkpoints.names import samples_seen_of
from open_ldm.checkpoints.shared import SharedCheckpoints
from open_ldm.commands.dry_run import dry_run
from open_ldm.commands.ema import write_average
from open_ldm.commands.plan.plan import plan
from open_ldm.core.distributed import World
from open_ldm.core.errors import ConfigError
from open_ldm.runs.autoencoder.recipe import load_autoencoder_recipe
from open_ldm.runs.averages import _snapshots, keep_averages
from open_ldm.runs.load import load_model
from open_ldm.runs.recipe import load_recipe
from open_ldm.runs.saving import Saving
from open_ldm.runs.train import train
from open_ldm.training.settings import PowerEmaConfig, TrainingConfig
from open_ldm.training.state import Counters
from tests.runs.tiny import DENOISERS, TINY, tiny_recipe

FORWARD = ["training.ema={kind: power, lengths: [0.05, 0.1], snapshot_every_samples: 4}", "preview.count=1"]


def trained(folder: Path, name: str, *changes: str) -> Path:
    recipe = load_recipe(str(tiny_recipe(folder)), [*DENOISERS["dit"], *FORWARD, *changes])
    train(recipe, folder / name, silent=True)
    return folder / name


def group(run: Path, name: str) -> dict[str, torch.Tensor]:
    return load_file(max((run / "checkpoints").iterdir()) / f"{name}.safetensors")


def hashes(folder: Path) -> dict[str, Any]:
    """{snapshot or checkpoint: {group: SHA-256}}."""
    manifests = {path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/MANIFEST.json")}
    return {name: {key: each["sha256"] for key, each in one["files"].items()} for name, one in manifests.items()}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("averages"), "run")


def test_any_length_equals_a_run_that_held_it(run: Path, tmp_path: Path) -> None:
    held = trained(tmp_path, "held", "training.ema.lengths=[0.02, 0.17]")
    for length, name in ((0.02, "ema"), (0.17, "ema_0.17")):
        made = write_average(run, length, tmp_path / f"made-{length:g}")
        assert made.error < 1e-6 and made.snapshots == 23 and not made.problems
        wanted, found = group(held, name), load_model(made.folder, "cpu").model.state_dict()
        changed = group(run, "ema")
        for key in wanted:
            assert torch.allclose(found[key], wanted[key], rtol=0, atol=2e-6 * float(wanted[key].abs().max()) + 1e-9), key
        assert any(not torch.allclose(changed[key], wanted[key], rtol=1e-3) for key in wanted)


def test_a_run_that_goes_on_is_bit_equal_with_its_averages_and_snapshots(run: Path, tmp_path: Path) -> None:
    broken = trained(tmp_path, "broken", "training.samples=48")
    assert trained(tmp_path, "broken") == broken
    assert hashes(broken / "averages") == hashes(run / "averages") and len(hashes(run / "averages")) == 24
    newest = f"samples-{TINY['training']['samples']:012d}"
    assert hashes(broken / "checkpoints")[newest] == hashes(run / "checkpoints")[newest]
    assert hashes(run / "checkpoints")[newest].keys() == {"model", "ema", "ema_0.1", "optimizer"}


class Course:
    """What `keep_averages` reads of a trainer, at a position."""

    def __init__(self, batch_size: int, every: int) -> None:
        given = {"samples": 10**6, "batch_size": batch_size, "checkpoint_every_samples": 10**5}
        given["ema"] = {"kind": "power", "snapshot_every_samples": every, "keep_snapshots": 8}  # type: ignore[assignment]
        self.config, self.world = TrainingConfig.model_validate(given), World()
        self.sharing = SimpleNamespace(in_shards=False)
        groups = {name: {"weight": torch.zeros(2)} for name in self.config.ema.groups}  # type: ignore[union-attr]
        self.state = SimpleNamespace(counters=Counters(), ema=SimpleNamespace(snapshot=lambda: groups))

    def go_on(self, folder: Path, updates: int) -> list[int]:
        """The positions of the snapshots after so many updates more."""
        for _ in range(updates):
            self.state.counters.updates += 1
            self.state.counters.samples_seen += self.config.batch_size
            keep_averages(folder, self)  # type: ignore[arg-type]
        return sorted(samples_seen_of(name) for name in CheckpointFolder(folder).names())


def test_snapshots_stay_evenly_spread_where_an_update_is_longer_than_their_interval(tmp_path: Path) -> None:
    kept = Course(64, 10).go_on(tmp_path, 30)
    assert kept == [64 * number for number in (4, 8, 12, 16, 20, 24, 28)]


def test_snapshots_are_bounded_where_their_interval_becomes_longer(tmp_path: Path) -> None:
    Course(4, 4).go_on(tmp_path, 15)
    longer = Course(4, 40)
    longer.state.counters = Counters(samples_seen=60, updates=15)
    assert longer.go_on(tmp_path, 5) == [40, 80]


def test_snapshots_of_a_training_that_was_lost_go_when_another_begins(tmp_path: Path) -> None:
    course = Course(4, 4)
    assert len(course.go_on(tmp_path / "averages", 6)) == 6
    course.state.counters = Counters(samples_seen=8, updates=2)
    Saving(SharedCheckpoints(tmp_path / "checkpoints", World()), course, dict, SimpleNamespace())  # type: ignore[arg-type]
    assert course.go_on(tmp_path / "averages", 0) == [4, 8]


def test_snapshots_are_checked_and_not_held(tmp_path: Path) -> None:
    course = Course(4, 4)
    course.go_on(tmp_path, 6)
    found, problems = _snapshots(CheckpointFolder(tmp_path, required=("updates",)), 20, course.config.ema.groups)  # type: ignore[union-attr]
    assert [each.content["updates"] for each in found] == [1, 2, 3, 4] and not problems
    assert not any(each.files for each in found)


def test_snapshots_are_bounded(tmp_path: Path) -> None:
    few = trained(tmp_path, "few", "training.ema.keep_snapshots=5")
    assert sorted(hashes(few / "averages")) == [f"samples-{4 * n:012d}" for n in (8, 16, 24)]
    made = write_average(few, 0.13, tmp_path / "made")
    assert made.snapshots == 2 and made.error > 1e-4


def test_a_damaged_snapshot_is_passed_over_by_name(run: Path, tmp_path: Path) -> None:
    file = run / "averages" / "samples-000000000048" / "ema_0.1.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    try:
        made = write_average(run, 0.13, tmp_path / "made")
    finally:
        file.write_bytes(whole)
    assert made.snapshots == 22 and "samples-000000000048/ema_0.1.safetensors is damaged" in made.problems[0]


def test_what_there_is_no_average_of_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"above 0 and below 0\.289"):
        write_average(run, 0.3, tmp_path / "a")
    plain = trained(tmp_path, "plain", "training.ema={decay: 0.9}", "training.samples=16")
    with pytest.raises(ConfigError, match=r"one average .*kind=power.*fix: "):
        write_average(plain, 0.1, tmp_path / "b")
    begun = trained(tmp_path, "begun", f"init_from={{source: {run}}}", "training.samples=8")
    with pytest.raises(ConfigError, match=r"samples-000000000000 has no update yet to average over; needed"):
        write_average(begun / "checkpoints" / "samples-000000000000", 0.1, tmp_path / "c")
    with pytest.raises(ConfigError, match="exists already"):
        write_average(run, 0.1, plain)


def test_overrides_reach_either_kind(tmp_path: Path) -> None:
    path = str(tiny_recipe(tmp_path))
    assert load_recipe(path, ["training.ema.kind=power"]).training.ema == PowerEmaConfig()
    assert load_recipe(path, ["training.ema.decay=0.5", "training.ema.kind=exponential"]).training.ema.model_dump() == {
        "decay": 0.5,
        "warmup": True,
    }
    with pytest.raises(ConfigError, match=r"training\.ema.*decay"):
        load_recipe(path, ["training.ema.kind=power", "training.ema.decay=0.5"])
    with pytest.raises(ConfigError, match="for denoisers"):
        load_autoencoder_recipe("photos-autoencoder", ["training.ema.kind=power"])


def test_the_plan_counts_a_second_average_and_the_snapshots(tmp_path: Path) -> None:
    one, two = (
        plan(dry_run(load_recipe(str(tiny_recipe(tmp_path)), change)), memory_bytes=10**9, measure=False)
        for change in ([], FORWARD)
    )
    assert two.memory.average == 2 * one.memory.average and two.checkpoint_bytes == one.checkpoint_bytes + one.memory.average
    assert one.snapshots == 0 and two.snapshots == 24
    assert "at most 24 x" in two.text() and "every 4 pictures" in two.text() and "ldm ema" not in one.text()
