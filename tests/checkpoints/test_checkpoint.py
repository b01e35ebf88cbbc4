from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from open_ldm.checkpoints import checkpoint as module
from open_ldm.checkpoints.checkpoint import REQUIRED, CheckpointFolder, load_checkpoint
from open_ldm.checkpoints.files import MANIFEST, MANIFEST_SHA256, SCHEMA
from open_ldm.checkpoints.manifest_check import COUNTERS
from open_ldm.core.errors import CheckpointError, DiskError
from open_ldm.core.files import hash_file, write_json
from open_ldm.training.state import Counters
from tests.helpers import KNOWN, randn

Files = dict[str, dict[str, Tensor]]
RUN: dict[str, Any] = {"recipe": {"name": "é"}, "counters": {"samples_seen": 1}, **KNOWN}


def files_at(seed: int) -> Files:
    return {
        "model": {"weight": randn(3, 4, seed=seed), "bias": randn(3, seed=seed).to(torch.bfloat16)},
        "ema": {"weight": randn(4, 3, seed=seed).t(), "count": torch.tensor(seed)},
        "optimizer": {},
    }


def equal(found: Any, wanted: Files) -> bool:
    return found.keys() == wanted.keys() and all(
        found[group].keys() == tensors.keys()
        and all(torch.equal(found[group][name], tensor) for name, tensor in tensors.items())
        for group, tensors in wanted.items()
    )


@pytest.fixture
def folder(tmp_path: Path) -> CheckpointFolder:
    """Holds two good checkpoints, at 100 and at 200 samples."""
    store = CheckpointFolder(tmp_path / "checkpoints")
    store.save(100, files_at(1), {**RUN, "note": "older"})
    store.save(200, files_at(2), {**RUN, "note": "newer"})
    return store


def newest_path(folder: CheckpointFolder) -> Path:
    return folder.root / folder.names()[0]


def test_round_trip_is_bit_equal(folder: CheckpointFolder) -> None:
    found, problems = folder.newest()
    assert found is not None
    assert problems == []
    assert equal(found.files, files_at(2))
    assert found.files["model"]["bias"].dtype == torch.bfloat16
    assert found.content["note"] == "newer"
    assert found.content["samples_seen"] == 200


def test_saved_says_what_was_written(tmp_path: Path) -> None:
    saved = CheckpointFolder(tmp_path).save(5, files_at(1), RUN)
    assert saved.bytes == sum(file.stat().st_size for file in saved.path.glob("*.safetensors"))
    assert {file.suffix for file in saved.path.iterdir()} == {".safetensors", ".json"}


def test_one_group_can_be_read_alone(folder: CheckpointFolder) -> None:
    path = newest_path(folder)
    (path / "optimizer.safetensors").unlink()
    assert list(load_checkpoint(path, ("ema",)).files) == ["ema"]
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


def test_no_checkpoints_at_all(tmp_path: Path) -> None:
    assert CheckpointFolder(tmp_path / "none").newest() == (None, [])


def flip_byte(path: Path) -> None:
    file = path / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def truncate(path: Path) -> None:
    file = path / "ema.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def with_manifest(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def corrupt(path: Path) -> None:
        content = json.loads((path / MANIFEST).read_text())
        change(content)
        content[MANIFEST_SHA256] = module.sha256_of_content({k: v for k, v in content.items() if k != MANIFEST_SHA256})
        (path / MANIFEST).write_text(json.dumps(content))

    return corrupt


def one_digit_of_the_manifest(path: Path) -> None:
    (path / MANIFEST).write_text((path / MANIFEST).read_text().replace("0.1", "0.7"))


def without_hash(path: Path) -> None:
    content = json.loads((path / MANIFEST).read_text())
    del content[MANIFEST_SHA256]
    (path / MANIFEST).write_text(json.dumps(content))


def replaced(tensors: dict[str, Tensor]) -> Callable[[Path], None]:
    """Another file with a manifest that owns up to it, but not to its tensors."""

    def corrupt(path: Path) -> None:
        file = path / "model.safetensors"
        save_file(tensors, file)
        entry = {"bytes": file.stat().st_size, "sha256": hash_file(file)}
        with_manifest(lambda content: content["files"]["model"].update(entry))(path)

    return corrupt


def garbage_with_its_own_hash(path: Path) -> None:
    file = path / "model.safetensors"
    file.write_bytes(b"not a safetensors file")
    entry = {"bytes": file.stat().st_size, "sha256": hash_file(file)}
    with_manifest(lambda content: content["files"]["model"].update(entry))(path)


GOOD = files_at(2)["model"]
CORRUPTIONS: dict[str, Callable[[Path], None]] = {
    "flipped byte": flip_byte,
    "truncated file": truncate,
    "missing file": lambda path: (path / "optimizer.safetensors").unlink(),
    "file is a folder": lambda path: ((path / "ema.safetensors").unlink(), (path / "ema.safetensors").mkdir())[-1],
    "missing manifest": lambda path: (path / MANIFEST).unlink(),
    "empty manifest": lambda path: (path / MANIFEST).write_text("") and None,
    "binary manifest": lambda path: (path / MANIFEST).write_bytes(b"\xff\xfe\x00") and None,
    "half a manifest": lambda path: (path / MANIFEST).write_text((path / MANIFEST).read_text()[:80]) and None,
    "manifest of a list": lambda path: (path / MANIFEST).write_text("[1, 2]") and None,
    "other schema": with_manifest(lambda content: content.update(schema=SCHEMA + 1)),
    "no schema": with_manifest(lambda content: content.pop("schema")),
    "files is a list": with_manifest(lambda content: content.update(files=[])),
    "entry is text": with_manifest(lambda content: content["files"].update(model="x")),
    "entry without hash": with_manifest(lambda content: content["files"]["model"].pop("sha256")),
    "entry without inventory": with_manifest(lambda content: content["files"]["model"].pop("tensors")),
    "inventory is a list": with_manifest(lambda content: content["files"]["model"].update(tensors=["weight"])),
    "one digit of the manifest": one_digit_of_the_manifest,
    "no hash of the manifest": without_hash,
    **{
        f"no {name}": with_manifest(lambda content, name=name: (content.pop(name, 0), content["files"].pop(name, 0))[-1])
        for name in REQUIRED
    },
    "NaN tensor": replaced({**GOOD, "weight": torch.full((3, 4), float("nan"))}),
    "infinite tensor": replaced({**GOOD, "bias": torch.full((3,), float("inf"), dtype=torch.bfloat16)}),
    "wrong shape": replaced({**GOOD, "weight": torch.zeros(4, 3)}),
    "wrong dtype": replaced({**GOOD, "weight": torch.zeros(3, 4, dtype=torch.float64)}),
    "missing tensor": replaced({"weight": GOOD["weight"]}),
    "unexpected tensor": replaced({**GOOD, "extra": torch.zeros(1)}),
    "garbage with its own hash": garbage_with_its_own_hash,
}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_damaged_checkpoint_is_named_in_one_line_and_the_older_one_taken(folder: CheckpointFolder, name: str) -> None:
    path = newest_path(folder)
    CORRUPTIONS[name](path)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert path.name in str(caught.value)
    found, problems = folder.newest()
    assert found is not None
    assert equal(found.files, files_at(1))
    assert problems == [str(caught.value)]


def test_none_verifies_is_an_error_and_never_a_fresh_start(folder: CheckpointFolder) -> None:
    for name in folder.names():
        flip_byte(folder.root / name)
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* verifies") as caught:
        folder.newest()
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 65


def test_the_newest_k_are_kept(tmp_path: Path) -> None:
    store = CheckpointFolder(tmp_path, keep=3)
    for samples in (1, 20, 300, 4000, 50_000):
        store.save(samples, files_at(samples), RUN)
    assert store.names() == [f"samples-{samples:012d}" for samples in (50_000, 4000, 300)]
    assert all(load_checkpoint(tmp_path / name) for name in store.names())


def test_saving_again_where_a_damaged_one_lies_replaces_it(folder: CheckpointFolder) -> None:
    flip_byte(newest_path(folder))
    folder.save(200, files_at(5), RUN)
    found, problems = folder.newest()
    assert found is not None
    assert problems == []
    assert equal(found.files, files_at(5))


class Crash(BaseException):
    """Stands for kill -9: nothing after it runs."""


def raising(error: BaseException) -> Callable[..., None]:
    def fail(*args: Any, **named: Any) -> None:
        raise error

    return fail


@pytest.mark.parametrize("where", ["save_file", "write_json", "hash_file", "os.rename"])
def test_a_crash_while_writing_leaves_the_older_ones_and_nothing_half_made(
    folder: CheckpointFolder, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        place: Any = where if where == "os.rename" else f"{module.__name__}.{where}"
        patched.setattr(place, raising(Crash()))
        # A process that is killed cleans nothing up.
        patched.setattr("shutil.rmtree", lambda *args, **named: None)
        with pytest.raises(Crash):
            folder.save(300, files_at(3), RUN)
    assert list(folder.root.glob(".tmp-*"))
    found, problems = folder.newest()
    assert found is not None
    assert problems == []
    assert equal(found.files, files_at(2))
    assert len(folder.names()) == 2
    folder.save(300, files_at(3), RUN)
    assert not list(folder.root.glob(".tmp-*"))
    assert folder.names()[0] == "samples-000000000300"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("I/O error: no space")])
def test_a_full_disk_is_one_line_and_leaves_the_older_ones(
    folder: CheckpointFolder, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(module, "save_file", raising(error))
        with pytest.raises(DiskError, match=r"could not be written: .*space.*; fix: ") as caught:
            folder.save(300, files_at(3), RUN)
    assert "\n" not in str(caught.value)
    assert not list(folder.root.glob(".tmp-*"))
    found, _ = folder.newest()
    assert found is not None
    assert equal(found.files, files_at(2))


def test_removal_starts_with_the_manifest(folder: CheckpointFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("shutil.rmtree", raising(Crash()))
        with pytest.raises(Crash):
            folder.save(300, files_at(3), RUN)
    with pytest.raises(CheckpointError, match="is missing or damaged"):
        load_checkpoint(folder.root / "samples-000000000100")
    found, _ = folder.newest()
    assert found is not None
    assert equal(found.files, files_at(3))


def test_only_what_the_reader_requires_must_be_there(tmp_path: Path) -> None:
    saved = CheckpointFolder(tmp_path).save(5, {"ema": files_at(1)["ema"]}, {"recipe": {}})
    assert load_checkpoint(saved.path, required=("recipe", "ema")).content["samples_seen"] == 5
    with pytest.raises(CheckpointError, match="lacks counters, facts, latent_stats, model, optimizer"):
        load_checkpoint(saved.path, ("ema",))


def test_other_names_are_no_checkpoints(folder: CheckpointFolder) -> None:
    for name in ("samples-000000000300.bak", "samples-new", "samples-0000000000300", "samples-00000000030٣"):
        (folder.root / name).mkdir()
    assert folder.names() == ["samples-000000000200", "samples-000000000100"]
    folder.save(300, files_at(3), RUN)
    assert (folder.root / "samples-000000000300.bak").is_dir()


def test_damaged_ones_do_not_count_as_kept(folder: CheckpointFolder) -> None:
    folder.keep = 3
    for samples in (300, 400):
        flip_byte(folder.save(samples, files_at(3), RUN).path)
    folder.newest()
    folder.keep = 2
    for written, left in ((250, (400, 300, 250, 200)), (300, (400, 300, 250)), (500, (500, 400, 300)), (600, (600, 500))):
        folder.save(written, files_at(4), RUN)
        assert folder.names() == [f"samples-{samples:012d}" for samples in left]


def test_the_one_just_written_stays_whatever_is_newer(folder: CheckpointFolder) -> None:
    folder.save(50, files_at(5), RUN)
    assert folder.names()[-1] == "samples-000000000050"


def of_a_run(content: dict[str, Any]) -> None:
    """The newest checkpoint of `folder` as a run of 1,000 samples would write it."""
    content["recipe"]["training"] = {"samples": 1000, "batch_size": 8}
    content["counters"] = {"samples_seen": 200, "updates": 25, "skipped": 0, "skipped_in_row": 0, "rollbacks": 0}


ODD: dict[str, Callable[[dict[str, Any]], object]] = {
    "samples_seen in its manifest is 10": lambda content: content.update(samples_seen=10**15),
    "samples_seen in its manifest is 'many'": lambda content: content.update(samples_seen="many"),
    "is 300, and its name says 200": lambda content: content.update(samples_seen=300),
    "counters in its manifest says samples_seen=1000000000000000": lambda content: content["counters"].update(
        samples_seen=10**15
    ),
    "counters in its manifest says samples_seen=208, and": lambda content: content["counters"].update(samples_seen=208),
    "counters in its manifest says samples_seen=200 of 100": lambda content: content["recipe"]["training"].update(samples=100),
    "counters in its manifest says updates=-1": lambda content: content["counters"].update(updates=-1),
    "counters in its manifest says skipped=True": lambda content: content["counters"].update(skipped=True),
    "counters in its manifest has an unknown counter 'extra'": lambda content: content["counters"].update(extra=1),
    "counters in its manifest has no samples_seen": lambda content: content.update(counters=[]),
    "fingerprint in its manifest is missing": lambda content: content.pop("fingerprint"),
    "fingerprint in its manifest is no mapping": lambda content: content.update(fingerprint={"threads": 2}),
    "recipe in its manifest is no mapping": lambda content: content.update(recipe=[1]),
    "latent_stats in its manifest cannot be used .*std above 0": lambda content: content["latent_stats"].update(std=[0.0]),
    "latent_stats in its manifest cannot be used .*finite": lambda content: content["latent_stats"].update(mean=["0.1"]),
    "latent_stats in its manifest cannot be used .*lacks": lambda content: content.update(latent_stats=3),
    "latent_stats in its manifest is of 2 channels": lambda content: content["latent_stats"].update(
        mean=[0.0] * 2, std=[1.0] * 2
    ),
    r"facts in its manifest does not fit \(channels": lambda content: content["facts"].update(channels="1"),
    r"facts in its manifest does not fit \(class_names.0": lambda content: content["facts"].update(class_names=[1]),
    r"facts in its manifest does not fit \(view": lambda content: content["facts"].pop("view"),
    "facts in its manifest has a size": lambda content: content["facts"].update(latent_size=[0, 8]),
}


@pytest.mark.parametrize("said", ODD)
def test_a_manifest_that_makes_no_sense_is_named_and_the_older_one_taken(folder: CheckpointFolder, said: str) -> None:
    path = newest_path(folder)
    with_manifest(of_a_run)(path)
    assert load_checkpoint(path).content["counters"]["updates"] == 25
    with_manifest(lambda content: ODD[said](content) and None)(path)
    found, problems = folder.newest()
    assert found is not None and found.content["samples_seen"] == 100
    assert len(problems) == 1 and re.match(f"samples-000000000200: .*{said}", problems[0]) and len(problems[0]) < 300, problems
    with_manifest(lambda content: content.update(recipe=[1]))(folder.root / folder.names()[1])
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* verifies") as caught:
        folder.newest()
    assert caught.value.exit_code == 65


def test_a_manifest_nested_beyond_all_sense_does_not_hide_the_older_one(folder: CheckpointFolder) -> None:
    (newest_path(folder) / MANIFEST).write_text("[" * 3000 + "]" * 3000)
    found, problems = folder.newest()
    assert found is not None and found.content["samples_seen"] == 100 and "nested deeper" in problems[0]


def test_every_counter_of_a_run_is_known_to_the_check() -> None:
    assert tuple(each.name for each in fields(Counters)) == COUNTERS


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
@pytest.mark.parametrize("mask", [0o022, 0o027, 0o002])
def test_weights_have_the_permissions_of_every_new_file(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        saved = CheckpointFolder(tmp_path / "run").save(5, files_at(1), RUN)
        write_json(tmp_path / "run.json", {})
    finally:
        os.umask(before)
    files = [*saved.path.iterdir(), tmp_path / "run.json"]
    assert len(files) == 5 and {file.stat().st_mode & 0o777 for file in files} == {0o666 & ~mask}
    assert load_checkpoint(saved.path)


def test_a_preferred_checkpoint_comes_before_a_newer_one_as_long_as_it_verifies(folder: CheckpointFolder) -> None:
    folder.keep = 3
    folder.save(230, files_at(3), {**RUN, "note": "of a stop"})

    def newest(every: int) -> tuple[object, int]:
        found, problems = folder.newest(preferred=lambda seen: seen % every == 0)
        assert found is not None
        return found.content["samples_seen"], len(problems)

    assert newest(100) == (200, 0) and newest(7) == (230, 0)
    (folder.root / "samples-000000000200" / "model.safetensors").write_bytes(b"damaged")
    assert newest(100) == (100, 1) and newest(200) == (230, 1)
