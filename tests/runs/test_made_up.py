"""What was due at the very update that a stop ends with is made up by the next start, as if there had been no stop."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from open_ldm.core.events import Event, read_events
from open_ldm.runs.autoencoder.recipe import load_autoencoder_recipe
from open_ldm.runs.autoencoder.train import train_autoencoder
from open_ldm.runs.recipe import load_recipe
from open_ldm.runs.recorder import RunRecorder
from open_ldm.runs.train import train
from tests.runs.autoencoder.tiny import tiny_recipe as tiny_autoencoder
from tests.runs.test_averages import hashes
from tests.runs.tiny import DENOISERS, tiny_recipe

DUE = [
    *DENOISERS["dit"],
    "training={samples: 24, batch_size: 4, checkpoint_every_samples: 24, preview_every_samples: 8}",
    "training.ema={kind: power, snapshot_every_samples: 8}",
    "data.holdout={share: 0.3}",
    "held_out={every_samples: 8, pictures: 6}",
    "preview.count=1",
    "sampling.steps=1",
]


def stop_before(monkeypatch: pytest.MonkeyPatch, samples: int) -> None:
    """Raise SIGTERM as the batch of the update that begins at so many samples is read."""
    really = RunRecorder._batch_read

    def reading(self: RunRecorder, batch: Any) -> None:
        if self.samples_seen == samples:
            signal.raise_signal(signal.SIGTERM)
        really(self, batch)

    monkeypatch.setattr(RunRecorder, "_batch_read", reading)


def told(run: Path, name: str) -> list[tuple[int, dict[str, Any]]]:
    """Positions and fields of the events of a name."""
    events: list[Event] = [event for event in read_events(run / "events.jsonl") if event.name == name]
    return [(event.samples_seen, {key: event.fields[key] for key in event.fields if key != "seconds"}) for event in events]


def files(run: Path, folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((run / folder).iterdir()) if path.is_file()}


def test_snapshots_held_out_losses_and_previews_of_the_update_of_a_stop_are_made_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, whole, broken = load_recipe(str(tiny_recipe(tmp_path)), DUE), tmp_path / "whole", tmp_path / "broken"
    assert train(recipe, whole, silent=True).code == 0
    with monkeypatch.context() as patched:
        stop_before(patched, 12)
        assert train(recipe, broken, silent=True).code == 75
    assert train(recipe, broken, silent=True).code == 0
    assert train(recipe, broken, silent=True).code == 0  # nothing is made up twice
    assert hashes(broken / "averages") == hashes(whole / "averages") and len(hashes(whole / "averages")) == 3
    assert told(broken, "held_out") == told(whole, "held_out") and [seen for seen, _ in told(whole, "held_out")] == [8, 16, 24]
    assert told(broken, "preview") == told(whole, "preview") and len(told(whole, "preview")) == 3
    assert files(broken, "samples") == files(whole, "samples")


def test_reconstructions_of_the_update_of_a_stop_are_made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = ["training.samples=24", "training.batch_size=4", "training.preview_every_samples=8"]
    recipe = load_autoencoder_recipe(str(tiny_autoencoder(tmp_path)), changes)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert train_autoencoder(recipe, whole, silent=True).code == 0
    with monkeypatch.context() as patched:
        stop_before(patched, 12)
        assert train_autoencoder(recipe, broken, silent=True).code == 75
    assert train_autoencoder(recipe, broken, silent=True).code == 0
    assert train_autoencoder(recipe, broken, silent=True).code == 0
    assert told(broken, "reconstruction") == told(whole, "reconstruction") and len(told(whole, "reconstruction")) == 3
    assert files(broken, "reconstructions") == files(whole, "reconstructions")
