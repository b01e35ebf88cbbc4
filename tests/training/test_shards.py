"""A model in shards: it trains like one process, and what it saves is read by any number of processes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from open_ldm.checkpoints.checkpoint import CheckpointFolder, load_checkpoint
from open_ldm.core.errors import CheckpointError
from tests.helpers import DENOISERS
from tests.processes import finish, start_processes
from tests.training.shards import MORE, NAMES, REQUIRED, UPDATES
from tests.training.small_run import BATCH_SIZE, all_tensors, run_updates, same_bits, small_trainer

SEEN = f"samples-{UPDATES * BATCH_SIZE:012d}"


def told(what: str, out: Path, size: int) -> list[dict[str, Any]]:
    """What each of so many processes found."""
    finish(start_processes("tests.training.shards", [what, str(out)], size))
    return [json.loads((out / f"{what}-{rank}.json").read_text()) for rank in range(size)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which two processes saved."""
    out = tmp_path_factory.mktemp("shards")
    told("save", out, 2)
    return out


def test_shards_train_like_one_process(saved: Path) -> None:
    found, other = (json.loads((saved / f"save-{rank}.json").read_text()) for rank in range(2))
    # Two micro-batches on each of two processes, added and not averaged; what one process does not use counts as zero.
    for each in (found["sum"], other["sum"], found["copies"], other["copies"]):  # in two shards, and in two copies
        assert each == [6.0, 12.0, 18.0, 2.0, 2.0, 2.0, 0.0, 1.0, 2.0, 0]
    # What torch does by itself: the mean of two equal gradients, no divisor of one's own on gloo, no part of a root alone.
    assert found["averaged"] == [1.0, 1.0, 1.0] and "PREMUL_SUM" in found["divisor"] and "DTensor" in found["outside"]
    for name in NAMES:
        one = small_trainer(denoiser=DENOISERS[name])
        wanted = [update.loss for update in run_updates(one, UPDATES + MORE, micro=2)]
        losses = found[name]["losses"] + found[name]["after"]
        assert losses[0] == pytest.approx(wanted[0], rel=1e-6)
        assert losses == pytest.approx(wanted, rel=1e-5)
        assert losses == other[name]["losses"] + other[name]["after"]
        assert found[name]["same"] and other[name]["same"], "going on from a checkpoint gives the same bits"
        assert found[name]["average"] and other[name]["average"]
        assert found[name]["share"] + other[name]["share"] == 1 and 0.5 <= found[name]["share"] < 0.55
    assert "could not be written: No space left on device" in found["refused"] and found["refused"].endswith("True []")
    assert found["refused"] == other["refused"]
    assert "could not be written: No space left on device" in found["refused_beside"]
    assert found["refused_beside"] == other["refused_beside"] and found["refused_beside"].endswith("False")


def test_one_process_reads_what_two_saved(saved: Path) -> None:
    for name in NAMES:
        files = [path for path in (saved / name).rglob("*") if path.is_file()]
        assert {path.suffix for path in files} == {".json", ".safetensors"} and len(files) == 1 + 3 * 2
        checkpoint = load_checkpoint(saved / name / SEEN, required=REQUIRED)
        whole = {f"{group}.{key}": tensor for group, tensors in checkpoint.files.items() for key, tensor in tensors.items()}
        assert same_bits(whole, load_file(saved / f"{name}.safetensors"))
        trainer = small_trainer(denoiser=DENOISERS[name])
        trainer.restore(checkpoint)
        after = [update.loss for update in run_updates(trainer, MORE, micro=2)]
        assert after == pytest.approx(json.loads((saved / "save-0.json").read_text())[name]["after"], rel=1e-5)


def test_three_processes_read_what_two_and_one_saved(saved: Path) -> None:
    for name in NAMES:
        trainer = small_trainer(denoiser=DENOISERS[name])
        run_updates(trainer, 2)
        counters = {"counters": trainer.state.counters_to_json(), "fingerprint": {}}
        CheckpointFolder(saved / f"{name}-plain").save(2 * BATCH_SIZE, trainer.state.tensors(), counters)
        tensors = {key: tensor.contiguous() for key, tensor in all_tensors(trainer).items()}
        save_file(tensors, saved / f"{name}-plain.safetensors")
    shutil.copytree(saved / "dit-plain", saved / "damaged")
    part = damage(shutil.copytree(saved / "dit" / SEEN, saved / "damaged" / SEEN))
    found, *others = told("load", saved, 3)
    assert all(found == other for other in others)
    other, damaged = found.pop("other"), found.pop("damaged")
    assert len(found) == 8 and all(found.values())
    assert other.startswith("checkpoint does not fit the recipe's model: model ")
    assert damaged == [f"samples-{2 * BATCH_SIZE:012d}", f"{SEEN}/{part} is damaged: its SHA-256 differs from the manifest's"]


def damage(checkpoint: Path) -> str:
    """Change one byte of a part; returns its name."""
    part = sorted((checkpoint / "ema").iterdir())[1]
    content = bytearray(part.read_bytes())
    content[-1] ^= 1
    part.write_bytes(content)
    return part.relative_to(checkpoint).as_posix()


def test_a_part_that_is_damaged_or_missing_is_named(saved: Path, tmp_path: Path) -> None:
    checkpoint = shutil.copytree(saved / "dit" / SEEN, tmp_path / SEEN)
    part = damage(checkpoint)
    assert load_checkpoint(checkpoint, ("model",), REQUIRED).files.keys() == {"model"}
    with pytest.raises(CheckpointError, match=f"{SEEN}/{part} is damaged"):
        load_checkpoint(checkpoint, required=REQUIRED)
    (checkpoint / part).unlink()
    with pytest.raises(CheckpointError, match=f"{SEEN}/{part} is missing"):
        load_checkpoint(checkpoint, required=REQUIRED)
