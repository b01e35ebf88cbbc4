"""What the training of an autoencoder writes besides: checks on held-out pictures, and the autoencoder itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from open_ldm.autoencoders.export import export
from open_ldm.autoencoders.reconstruct import reconstruct
from open_ldm.run_folder.report.page import Section
from open_ldm.runs.autoencoder.checks import EVENT, sections_of, write_pictures
from open_ldm.runs.autoencoder.recipe import AutoencoderRecipe
from open_ldm.runs.recorder import RunRecorder
from open_ldm.training.autoencoder import AutoencoderTrainer, ImageBatch

AUTOENCODER = "autoencoder"
"""Folder inside the run folder that holds the newest autoencoder in diffusers' format."""


@dataclass(kw_only=True)
class AutoencoderRecorder(RunRecorder):
    """The recorder of an autoencoder: previews are held-out pictures, reconstructed by the averaged weights.

    Those weights are written out each time.

    Attributes:
        held_out: Reads the held-out pictures, always the same ones.
    """

    recipe: AutoencoderRecipe
    trainer: AutoencoderTrainer
    held_out: Callable[[], Iterable[ImageBatch]]
    preview_event: ClassVar[str] = EVENT

    @property
    def network(self) -> str:
        """The autoencoder's kind and factor."""
        return f"KL autoencoder of factor {self.recipe.network.factor}"

    @property
    def preview_every_samples(self) -> int:
        """How often previews are made: as the recipe says, but at least at the end, since a preview writes the autoencoder."""
        return self.recipe.training.preview_every_samples or self.recipe.training.samples

    def knowledge(self) -> Mapping[str, Any]:
        """Return nothing: an autoencoder learns of its data by training alone."""
        return {}

    def preview(self) -> None:
        """Write PSNR and pictures of the held-out reconstructions, and the autoencoder as it is now."""
        started = time.perf_counter()
        network = self.trainer.state.ema.model
        found = reconstruct(network, (batch.images for batch in self.held_out()))
        stem = self.folder.path / "reconstructions" / f"{self.samples_seen:012d}"
        paths = write_pictures(found, self.recipe.held_out.shown, stem, self.recipe.data.display)
        files = [path.relative_to(self.folder.path).as_posix() for path in paths]
        export(network, found.stats, self.folder.path / AUTOENCODER)
        self.event(
            self.preview_event,
            pictures=len(found.psnr_db),
            mean_psnr_db=round(found.mean_psnr_db, 3),
            worst_psnr_db=round(found.worst_psnr_db, 3),
            channels_psnr_db=[round(one, 3) for one in found.channels_psnr_db],
            files=files,
            seconds=round(time.perf_counter() - started, 2),
        )
        self.say(f"held out: {found.mean_psnr_db:.2f} dB, worst 5 % {found.worst_psnr_db:.2f} dB")

    def sections(self) -> Sequence[Section]:
        """Return the section of the held-out reconstructions."""
        return sections_of(self.folder.path)
