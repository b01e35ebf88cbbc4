"""What an autoencoder's training leaves behind: checks on held-out pictures, and the autoencoder itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from open_ldm.runs.autoencoder.checks import EVENT, sections_of, write_pictures
from open_ldm.runs.autoencoder.evaluate import reconstruct
from open_ldm.runs.autoencoder.export import export
from open_ldm.runs.autoencoder.recipe import AutoencoderRecipe
from open_ldm.runs.recorder import RunRecorder
from open_ldm.runs.report.page import Section
from open_ldm.training.autoencoder import AutoencoderTrainer, ImageBatch

AUTOENCODER = "autoencoder"
"""Folder inside the run folder that holds the newest autoencoder in diffusers' format."""


@dataclass(kw_only=True)
class AutoencoderRecorder(RunRecorder):
    """Previews are held-out pictures, reconstructed by the averaged weights; those weights are written out each time.

    `held_out`: opens the held-out pictures, always the same ones.
    """

    recipe: AutoencoderRecipe
    trainer: AutoencoderTrainer
    held_out: Callable[[], Iterable[ImageBatch]]

    @property
    def network(self) -> str:
        """The autoencoder's kind and factor."""
        return f"KL autoencoder of factor {self.recipe.network.factor}"

    @property
    def preview_every_samples(self) -> int:
        """As the recipe says, but at least at the end: a run without an autoencoder to show for it would be of no use."""
        return self.recipe.training.preview_every_samples or self.recipe.training.samples

    def knowledge(self) -> Mapping[str, Any]:
        """Nothing: an autoencoder learns of its data by training alone."""
        return {}

    def preview(self) -> None:
        """PSNR and pictures of the held-out reconstructions, and the autoencoder as it is now."""
        started = time.perf_counter()
        network = self.trainer.ema.model
        found = reconstruct(network, self.held_out())
        stem = self.folder.path / "reconstructions" / f"{self.samples_seen:012d}"
        paths = write_pictures(found, self.recipe.held_out.shown, stem, self.recipe.data.display)
        files = [str(path.relative_to(self.folder.path)) for path in paths]
        export(network, found.stats, self.folder.path / AUTOENCODER)
        self.event(
            EVENT,
            pictures=len(found.psnr_db),
            mean_psnr_db=round(found.mean_psnr_db, 3),
            worst_psnr_db=round(found.worst_psnr_db, 3),
            channels_psnr_db=[round(one, 3) for one in found.channels_psnr_db],
            files=files,
            seconds=round(time.perf_counter() - started, 2),
        )
        self.say(f"held out: {found.mean_psnr_db:.2f} dB, worst 5 % {found.worst_psnr_db:.2f} dB")

    def sections(self) -> Sequence[Section]:
        """The held-out reconstructions."""
        return sections_of(self.folder.path)
