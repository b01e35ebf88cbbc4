"""Sampled pictures, as Python gives them: those of the commands, saved by a call in the words of Python."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from open_ldm.api.arguments import Place
from open_ldm.api.boundary import in_python
from open_ldm.commands import samples as sampled
from open_ldm.commands.samples import SampledFolder


@dataclass(frozen=True, eq=False, repr=False)
class Samples(sampled.Samples):
    """Pictures sampled from a run; a notebook shows them as one grid.

    Attributes:
        run: The run folder, or the checkpoint inside it, that was sampled from.
        samples_seen: How many training samples its model had learned from.
        problems: Newer checkpoints that were passed over because they are damaged, and why.
        sheet: The requests, and how the grid is laid out.
        settings: Solver, steps and guidance.
        pixels: The pictures, uint8 [N, C, H, W].
        channels: How many channels the source was given in the recipe; None for RGB.
        display: Which of several channels people are shown as red, green and blue; None shows all of them.
        exact: The pictures in the numbers of the files that were trained on, where these have 16 bits.
        start: The picture that was started from, for samples.json; None for noise.
        guide: The second model of autoguidance, for samples.json; None without one.
    """

    @classmethod
    def like(cls, samples: sampled.Samples) -> Samples:
        """Return the same pictures for Python."""
        return cls(**{field.name: getattr(samples, field.name) for field in fields(samples)})

    @in_python
    def save(self, folder: Place | None = None) -> SampledFolder:
        """Write what `ldm sample` writes: one PNG for each picture, grid.png and samples.json.

        Args:
            folder: Where to; without one RUN/drawn/0001, 0002, ..., so that nothing is overwritten.

        Returns:
            The files that were written.

        Raises:
            OpenLdmError: The folder holds older pictures that would stay among these, or files that no earlier sampling wrote,
                or is a run's; or the disk refuses.
        """
        return super().save(None if folder is None else Path(folder))
