"""A cache alone is enough: a run goes on, begins, and is measured where no pictures are, to the same bits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from open_ldm.commands.encode import encode
from open_ldm.core.distributed import World
from open_ldm.core.errors import ConfigError, DataError
from open_ldm.core.events import read_events
from open_ldm.evaluation.bootstrap import BootstrapConfig
from open_ldm.evaluation.protocol import Result
from open_ldm.run_folder.history import HELD_OUT
from open_ldm.runs import cached_source
from open_ldm.runs import held_out as held_out_pictures
from open_ldm.runs.cached_source import CachedSource, open_training_data, record_of, require_data_for_facts
from open_ldm.runs.encoders import Encoders
from open_ldm.runs.held_out import HeldOutPictures
from open_ldm.runs.load import load_run
from open_ldm.runs.recipe import Recipe, load_recipe
from open_ldm.runs.train import train
from open_ldm.sources.files import NoSuchPath
from tests.runs.tiny import losses, tiny_recipe

CHANGES = [
    "data.source={kind: folder, path: pictures}",
    "data.holdout={share: 0.3}",
    "data.views=2",
    "conditioning.semantic={kind: class}",
    "held_out={every_samples: 8, pictures: 6}",
    "cache={path: cache}",
    "denoiser={kind: dit, size: XS, patch: 4, depth: 1, width: 32, heads: 2}",
    "training.samples=16",
    "training.checkpoint_every_samples=8",
    "preview.count=1",
]


def recipe(*changes: str) -> Recipe:
    return load_recipe(str(tiny_recipe(Path())), [*CHANGES, *changes])


def hashes(run: str) -> dict[str, str]:
    manifest = json.loads((max(Path(run, "checkpoints").iterdir()) / "MANIFEST.json").read_text())
    return {name: described["sha256"] for name, described in manifest["files"].items()}


def held_out(run: str) -> list[dict[str, object]]:
    events = [event for event in read_events(Path(run) / "events.jsonl") if event.name == HELD_OUT]
    assert events
    return [{name: value for name, value in event.fields.items() if name != "seconds"} for event in events]


def measured(run: str) -> Result:
    loaded, bootstrap = load_run(Path(run)), BootstrapConfig(replicates=20)
    encoders = Encoders(loaded.generator.autoencoder, loaded.text_encoder, loaded.machine)
    pictures = HeldOutPictures(loaded.recipe, loaded.known, encoders, 6, World())
    return pictures.result(pictures.loss(loaded.model, bootstrap), bootstrap)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with pictures of two classes and sizes of their own."""
    draw = np.random.default_rng(0)
    for number in range(30):
        file = tmp_path / "here" / "pictures" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (16 + number, 20, 3), dtype=np.uint8)).save(file)
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_a_run_that_is_moved_without_its_pictures_goes_on_bit_equal(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(recipe("training.samples=8"), Path("run"), silent=True)
    there = shutil.copytree(here, here.parent / "there", ignore=shutil.ignore_patterns("pictures"))
    train(recipe(), Path("run"), silent=True)
    wanted = hashes("run"), losses(Path("run")), held_out("run"), measured("run")
    monkeypatch.chdir(there)
    assert isinstance(open_training_data(recipe()), CachedSource)
    train(recipe(), Path("run"), silent=True)
    assert (hashes("run"), losses(Path("run")), held_out("run"), measured("run")) == wanted
    events = read_events(Path("run/events.jsonl"))
    assert [event.text("bitwise") for event in events if event.name == "resume"] == ["yes"]
    assert any("no pictures are read" in event.fields.get("message", "") for event in events)
    train(recipe("cache.frozen=true"), Path("new"), silent=True)
    assert (hashes("new"), losses(Path("new"))) == wanted[:2]


def test_what_the_cache_does_not_hold_is_refused(here: Path) -> None:
    encode(recipe(), silent=True)
    source = open_training_data(recipe("cache.frozen=true"))
    pictures = open_training_data(recipe())
    assert isinstance(source, CachedSource) and not isinstance(pictures, CachedSource)
    assert [source.sample_id(index) for index in range(len(source))] == [pictures.sample_id(i) for i in range(len(pictures))]
    assert (source.hashes, source.fingerprint, source.summary) == (pictures.hashes, pictures.fingerprint, pictures.summary)
    shutil.rmtree("pictures")
    with pytest.raises(ConfigError, match="does not remember these data"):
        open_training_data(recipe("data.holdout={share: 0.4}", "cache.frozen=true"))
    with pytest.raises(NoSuchPath):
        open_training_data(recipe("data.holdout={share: 0.4}"))
    with pytest.raises(ConfigError, match=r"buckets needs the sizes"):
        open_training_data(recipe("data.transform.buckets={}", "cache.frozen=true"))
    with pytest.raises(ConfigError, match=r"controls read metadata \(magnification\)"):
        open_training_data(recipe("conditioning.controls=[{kind: metadata, column: magnification}]", "cache.frozen=true"))
    words = recipe("conditioning.semantic={kind: text, encoder: {kind: words, length: 10, width: 16}}", "denoiser.kind=dit")
    with pytest.raises(ConfigError, match="a vocabulary of all captions"):
        require_data_for_facts(words, source)
    with pytest.raises(ConfigError, match="controls that measure jpeg_quality"):
        require_data_for_facts(recipe("conditioning.controls=[{kind: jpeg_quality}]"), source)
    require_data_for_facts(words, pictures)
    before = sorted(Path().rglob("section.json"))
    with pytest.raises(DataError, match="has no section latents-"):
        train(recipe("data.views=3"), Path("run"), silent=True)
    assert sorted(Path().rglob("section.json")) == before, "it is refused before anything is written"
    with pytest.raises(DataError, match="no encoded held-out pictures"):
        train(recipe("held_out.pictures=5"), Path("other"), silent=True)
    assert not Path("other/checkpoints").exists() and not losses(Path("other")), "before an update is made"
    with pytest.raises(ConfigError, match="encodes nothing"):
        encode(recipe("cache.frozen=true"), silent=True)
    file = record_of(recipe())
    file.write_text(file.read_text().replace('"length": ', '"length": 1'))
    with pytest.raises(DataError, match="is damaged"):
        open_training_data(recipe())


def test_held_out_pictures_of_a_cache_serve_runs_that_read_them_alike(here: Path) -> None:
    given = "conditioning.controls=[{kind: original_size, gate: {kind: power_cosine, alpha: 2}}]"
    encode(recipe(given), silent=True)
    folders = sorted(Path("cache").glob("held-out-*"))
    shutil.rmtree("pictures")
    other = "conditioning.controls=[{kind: original_size, gate: {kind: constant}}]"
    changes = ("conditioning.semantic_drop=0.3", "conditioning.control_drop=0.2", "cache.frozen=true")
    train(recipe(other, *changes), Path("other"), silent=True)
    assert held_out("other") and sorted(Path("cache").glob("held-out-*")) == folders
    with pytest.raises(DataError, match="no encoded held-out pictures"):
        train(recipe(given, "conditioning.semantic.kind=none", "cache.frozen=true"), Path("third"), silent=True)


def test_held_out_pictures_that_an_earlier_version_kept_are_found(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as before:
        before.setattr(held_out_pictures, "read_by", lambda conditioning: conditioning.model_dump(mode="json"))
        encode(recipe(), silent=True)
    (folder,) = Path("cache").glob("held-out-*")
    train(recipe(), Path("run"), silent=True)
    assert list(Path("cache").glob("held-out-*")) == [folder]


def test_the_record_is_written_anew_only_where_something_changed(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encode(recipe("preview.count=2"), silent=True)
    file = record_of(recipe())
    written = file.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(cached_source, "some_captions", lambda *given: pytest.fail("captions were read again"))
        encode(recipe("preview.count=2"), silent=True)
    assert file.read_bytes() == written
    file.write_bytes(written[:-9])
    encode(recipe("preview.count=2"), silent=True)
    assert file.read_bytes() == written
    encode(recipe("preview.count=3"), silent=True)
    assert file.read_bytes() != written
