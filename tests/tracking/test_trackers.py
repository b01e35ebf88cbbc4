"""TensorBoard, W&B (offline) and Trackio, read back by their own readers after a kill -9, or a failure, in the middle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from open_ldm.tracking.sent import read_sent
from tests.processes import PATIENCE_SECONDS
from tests.started import Started
from tests.tracking.worker import EVERY, RESULT, loss

KINDS = ("tensorboard", "wandb", "trackio")
NUMBER = f"evaluation/fid/{RESULT.protocol.id}"
Curve = list[tuple[int, float]]


@pytest.mark.parametrize("how", ["killed", "failed"])
def test_an_interrupted_run_goes_on_and_no_point_is_lost_or_doubled(tmp_path: Path, how: str) -> None:
    for library in KINDS:
        pytest.importorskip(library, reason="the extra [track] is not installed")
    run, table = tmp_path / "run", tmp_path / "trackio"
    run.mkdir()
    said = worked(run, table, how)
    assert all(said.count(f"tracked by {kind}: ") == 2 for kind in KINDS)
    assert said.count("failed and is sent nothing more") == (0 if how == "killed" else 3)
    names = {kind: one.id for kind, one in read_sent(run, KINDS, "").items()}

    steps = list(range(EVERY, 49, EVERY))
    whole = [(step, pytest.approx(loss(step))) for step in steps]
    board = tensorboard_curves(run)
    rows = wandb_rows(run, names["wandb"])
    kept = json.loads(said.splitlines()[-1])
    losses, numbers = ([(row["step"], row[name]) for row in kept if name in row] for name in ("train/loss", NUMBER))
    for found in (board["train/loss"], curve(rows, "train/loss"), losses):
        assert found == whole
    evaluated = [(16, pytest.approx(12.5))]
    for found in (board[NUMBER], curve(rows, NUMBER), numbers):
        assert found == evaluated
    assert [step for step, _ in board["train/learning_rate"]] == steps
    assert "train/grad_norm" not in board  # not a number: a gap, and no point
    internal = [step for step, _ in rows]
    assert internal == sorted(set(internal)), "W&B drops rows whose step goes back"
    assert [row["samples_seen"] for _, row in rows if "preview.path" in row] == [16, 32, 48]
    assert tensorboard_pictures(run) == [(16, (16, 0, 0)), (32, (32, 0, 0)), (48, (48, 0, 0))]


def worked(run: Path, table: Path, how: str) -> str:
    """Work in a process of its own; returns what it said."""
    worker = Started("tests.tracking.worker", [str(run), how, *KINDS], {"TRACKIO_DIR": str(table), "WANDB_SILENT": "true"})
    said, errors = worker.communicate(timeout=PATIENCE_SECONDS)
    assert worker.returncode == 0, errors.decode()
    return said.decode()


def tensorboard_curves(run: Path) -> dict[str, Curve]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(run / "tensorboard"))
    read.Reload()
    return {tag: [(one.step, one.value) for one in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def tensorboard_pictures(run: Path) -> list[tuple[int, tuple[int, ...]]]:
    from io import BytesIO

    from PIL import Image
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(run / "tensorboard"))
    read.Reload()
    pictures = ((one.step, Image.open(BytesIO(one.encoded_image_string))) for one in read.Images("preview"))
    return [(step, tuple(int(value) for value in np.asarray(picture)[0, 0])) for step, picture in pictures]


def wandb_rows(run: Path, name: str) -> list[tuple[int, dict[str, object]]]:
    from open_ldm.tracking.wandb_files import rows

    return [(step, dict(row)) for step, row in rows(run / "wandb", name)]


def curve(rows: list[tuple[int, dict[str, object]]], name: str) -> Curve:
    return [(row["samples_seen"], row[name]) for _, row in rows if name in row]  # type: ignore[misc]
