"""The same command with more `training.samples` goes on, whatever the course of the learning rate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from open_ldm.controls.base import ViewShape
from open_ldm.core.config import to_yaml
from open_ldm.core.errors import ConfigError
from open_ldm.core.events import Event, read_events
from open_ldm.model.spec import DataFacts
from open_ldm.run_folder.folder import RunFolder
from open_ldm.runs.places import without_places
from open_ldm.runs.recipe import Recipe, load_recipe, recipe_from
from open_ldm.runs.train import require_same_recipe, train
from open_ldm.training.fingerprint import recipe_hash
from tests.run_folder.test_report import Page
from tests.runs.test_resume import kill_at
from tests.runs.tiny import losses, tiny_recipe
from tests.started import start

COSINE = ["training.optimizer.decay=cosine", "training.checkpoint_every_samples=8", "training.preview_every_samples=0"]


def trained(folder: Path, out: Path, samples: int) -> list[Event]:
    recipe = load_recipe(str(tiny_recipe(folder)), [*COSINE, f"training.samples={samples}"])
    assert train(recipe, out, silent=True).samples_seen == samples
    return read_events(out / "events.jsonl")


def test_a_finished_cosine_goes_on_at_the_rate_of_the_longer_one(tmp_path: Path) -> None:
    trained(tmp_path, tmp_path / "run", 16)
    events = trained(tmp_path, tmp_path / "run", 32)
    planned = trained(tmp_path, tmp_path / "planned", 32)
    rates = [[event.number("learning_rate") for event in each if event.name == "train"] for each in (events, planned)]
    assert rates[0][4:] == rates[1][4:] and rates[0][:4] != rates[1][:4]
    (change,) = [event for event in events if event.name == "length"]
    assert change.number("samples_before") == 16 and change.number("learning_rate") == pytest.approx(5e-4)
    assert "training goes on to 32 samples (16 before)" in " ".join(Page((tmp_path / "run/report.html").read_text()).words)
    again = trained(tmp_path, tmp_path / "run", 32)
    assert len([event for event in again if event.name == "length"]) == 1  # said once


def test_a_kill_in_the_longer_part_changes_nothing(tmp_path: Path) -> None:
    for name in ("whole", "broken"):
        trained(tmp_path, tmp_path / name, 16)
    arguments = ["train", str(tmp_path / "tiny.yaml"), *COSINE, "training.samples=64", "--out", str(tmp_path / "broken")]
    process = start(arguments)
    assert kill_at(process, tmp_path / "broken", 36)
    trained(tmp_path, tmp_path / "whole", 64)
    trained(tmp_path, tmp_path / "broken", 64)
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole") and len(losses(tmp_path / "whole")) == 16
    last = [event for event in read_events(tmp_path / "broken" / "events.jsonl") if event.name == "resume"][-1]
    assert last.text("bitwise") == "yes"


def test_fewer_samples_than_were_seen_are_refused(tmp_path: Path) -> None:
    trained(tmp_path, tmp_path / "run", 16)
    with pytest.raises(ConfigError, match=r"training.samples=8, and run folder .* has seen 16 samples"):
        trained(tmp_path, tmp_path / "run", 8)


@pytest.mark.parametrize(
    ("moved", "other"),
    [
        (("autoencoder={kind: kl, path: PLACE, channels: 4, factor: 2}",), "autoencoder.channels=8"),
        (
            ("data.source={kind: shrunk, of: {kind: folder, path: PLACE}, short_side_px: [8, 16]}",),
            "training.seed=3",
        ),
    ],
)
def test_what_moved_is_the_same_and_anything_else_is_named(tmp_path: Path, moved: tuple[str, ...], other: str) -> None:
    def recipe(place: str, *more: str) -> Recipe:
        return load_recipe(str(tiny_recipe(tmp_path)), [*(one.replace("PLACE", place) for one in moved), *more])

    folder = RunFolder(tmp_path / "run")
    (folder.checkpoints / "samples-000000000008").mkdir(parents=True)
    folder.write_config(to_yaml(recipe("here")))
    require_same_recipe(recipe("there"), folder, recipe_from)
    with pytest.raises(ConfigError, match=other.partition("=")[0]):
        require_same_recipe(recipe("there", other), folder, recipe_from)


def test_where_things_lie_is_no_part_of_what_must_be_the_same(tmp_path: Path) -> None:
    def recipe(place: str, *more: str) -> Recipe:
        at = f"autoencoder={{kind: kl, path: {place}, channels: 4, factor: 2}}"
        return load_recipe(str(tiny_recipe(tmp_path)), [at, *more])

    here, there, other = recipe("here"), recipe("there"), recipe("there", "training.seed=3")
    assert recipe_hash(here.numerics) == recipe_hash(there.numerics) != recipe_hash(other.numerics)
    earlier = recipe_hash(here.numerics_with_places)  # as fingerprints had it
    saved = {"recipe": here.model_dump(mode="json"), "fingerprint": {"recipe": earlier, "threads": "1"}}
    unknown = DataFacts(4, ViewShape(16, 16, 16))
    known = replace(unknown, autoencoder="abc")
    assert without_places(saved, there, known)["fingerprint"] == {"recipe": recipe_hash(there.numerics), "threads": "1"}
    assert without_places(saved, here, unknown)["fingerprint"]["recipe"] == recipe_hash(here.numerics)
    assert without_places(saved, there, unknown)["fingerprint"]["recipe"] == earlier  # it may be another autoencoder
    changed = {**saved, "fingerprint": {"recipe": "something else"}}
    assert without_places(changed, there, known)["fingerprint"] == {"recipe": "something else"}


def test_another_batch_size_is_named_before_the_length_that_follows_from_it(tmp_path: Path) -> None:
    constant = ["training.preview_every_samples=0", "training.samples=15"]
    recipe = str(tiny_recipe(tmp_path))
    assert train(load_recipe(recipe, constant), tmp_path / "run", silent=True).samples_seen == 16  # whole batches of 4
    with pytest.raises(ConfigError, match=r"was started with training.batch_size=4 \(now 1\); needed: the same settings"):
        train(load_recipe(recipe, [*constant, "training.batch_size=1"]), tmp_path / "run", silent=True)
