"""Training an autoencoder of five channels from tensors alone: what a laboratory does whose pictures are not RGB."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from open_ldm.autoencoders.network import NetworkConfig, build_network
from open_ldm.autoencoders.reconstruction import ReconstructionConfig, reconstruction_losses
from open_ldm.checkpoints.checkpoint import CheckpointFolder
from open_ldm.core import seeds
from open_ldm.core.distributed import World
from open_ldm.core.pictures import to_images
from open_ldm.training.autoencoder import AutoencoderTrainer, ImageBatch, ImageEncoder
from tests.helpers import KNOWN, batch_at
from tests.training.small_run import CPU, all_tensors, copy_of, same_bits, settings

NETWORK = NetworkConfig(in_channels=5, latent_channels=3, widths=(8, 8), groups=4)
LOSS = ReconstructionConfig(scales=2)
REQUIRED = ("recipe", "counters", "model", "ema", "optimizer")


def trainer() -> AutoencoderTrainer:
    return AutoencoderTrainer(build_network(NETWORK, seed=1), LOSS, settings(samples=800), World(), CPU)


def images_at(positions: Sequence[int]) -> ImageBatch:
    """Five-channel pictures of 8 x 8 px, each channel one flat colour: easy to learn."""
    levels = seeds.uniform(3, "levels", positions, (5, 1, 1)) * 2 - 1
    return ImageBatch(tuple(positions), levels.expand(-1, -1, 8, 8).contiguous())


def run(trained: AutoencoderTrainer, updates: int, micro: int = 8) -> list[float]:
    losses = []
    for _ in range(updates):
        start = trained.state.counters.samples_seen
        batches = [images_at(range(i, i + micro)) for i in range(start, start + 8, micro)]
        losses.append(trained.update(batches).loss)
    return losses


def test_five_channels_are_learned() -> None:
    losses = run(trainer(), 60)
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])


def test_the_loss_is_that_of_one_draw_of_the_posterior() -> None:
    trained, batch = trainer(), images_at([3, 4])
    posterior = trained.state.model.encode(batch.images)
    noise = seeds.normal(trained.config.seed, "posterior", [3, 4], (3, 4, 4))
    decoded = trained.state.model.decode(posterior.mean + posterior.std * noise)
    found = trained.state.model(batch.images, noise)
    torch.testing.assert_close(found.images, decoded)
    torch.testing.assert_close(trained.losses(batch), reconstruction_losses(LOSS, found, batch.images))


def test_resumed_training_is_bit_equal(tmp_path: Path) -> None:
    through = trainer()
    wanted = run(through, 6)
    interrupted, store = trainer(), CheckpointFolder(tmp_path, required=REQUIRED)
    before = run(interrupted, 3)
    store.save(24, interrupted.state.tensors(), {"recipe": {}, **KNOWN, "counters": interrupted.state.counters_to_json()})
    newest, problems = store.newest()
    assert newest is not None and not problems
    resumed = trainer()
    resumed.state.restore(newest.files, newest.content["counters"])
    assert before + run(resumed, 3) == wanted
    assert same_bits(all_tensors(resumed), all_tensors(through))


def test_micro_batches_change_only_the_rounding() -> None:
    whole, parts = trainer(), trainer()
    assert run(whole, 2) == pytest.approx(run(parts, 2, micro=2), rel=1e-5)
    for name, tensor in copy_of(all_tensors(whole)).items():
        torch.testing.assert_close(all_tensors(parts)[name], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_picture_files_become_images_with_the_channels_wanted(channels: int) -> None:
    batch = batch_at([5, 6])
    found = ImageEncoder(channels, CPU).encode(batch)
    images = to_images(batch.pixels)
    luma = (images * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    torch.testing.assert_close(found.images, images if channels == 3 else luma)
    assert found.positions == (5, 6)
