"""Held-out loss of a run: on pictures its data.holdout keeps from training, during training and after."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from open_ldm.controls.data import columns_of_controls, measures_of
from open_ldm.core.distributed import World
from open_ldm.data.content import content_hash
from open_ldm.data.order import first_indices
from open_ldm.data.sample import Source
from open_ldm.encoded.batch import EncodedBatch, LiveEncoder
from open_ldm.evaluation.bootstrap import BootstrapConfig
from open_ldm.evaluation.held_out_loss import HeldOutLoss, held_out_loss
from open_ldm.evaluation.protocol import MeasurementProtocol, Result
from open_ldm.model.diffusion import DiffusionModel
from open_ldm.model.knowledge import Knowledge
from open_ldm.runs.encoders import Encoders, build_encoder
from open_ldm.runs.recipe import Recipe
from open_ldm.sources.loader import open_data, read_batches

_SEED = 0
_AT_ONCE = 32


@dataclass(frozen=True)
class HeldOutPictures:
    """Pictures that training never sees: the first of the held-out part's shuffled order, always cut in the same way.

    They are read and encoded once, when they are first used, whatever the training reads from.

    Attributes:
        recipe: With `data.holdout`.
        known: What the run learned of its data.
        encoders: Loaded.
        count: How many pictures at most.
        world: The processes that share them.
    """

    recipe: Recipe
    known: Knowledge
    encoders: Encoders
    count: int
    world: World

    @cached_property
    def source(self) -> Source:
        """The held-out part of the data set. Raises ConfigError where the data have no holdout."""
        return open_data(self.recipe.data, "held_out", captions=self.recipe.conditioning.reads_captions)

    @property
    def groups(self) -> dict[str, str]:
        """How pictures are held out, where a column decides it, under the name of the entry that says so."""
        groups = getattr(self.source, "groups", None)
        return {} if groups is None else {"groups": groups.sentence()}

    @cached_property
    def batches(self) -> list[EncodedBatch]:
        """This process's share of the pictures, encoded."""
        return list(self._encoded())

    def loss(self, model: DiffusionModel, bootstrap: BootstrapConfig | None = None) -> HeldOutLoss:
        """Measure the held-out loss of a model of this recipe.

        Args:
            model: On the device of the encoders.
            bootstrap: How intervals are found; None for the default.

        Returns:
            The loss at each time and in the mean, the same on every process.
        """
        return held_out_loss(
            model, self.known.stats, self.recipe.conditioning, self.batches, seed=_SEED, bootstrap=bootstrap, world=self.world
        )

    def result(self, found: HeldOutLoss, bootstrap: BootstrapConfig) -> Result:
        """The mean over all times as a result of an evaluation, with the protocol that it was measured by.

        The schedule is part of the protocol: a time means another amount of noise under another schedule.
        """
        stats = self.known.stats
        latents = " ".join(f"{value:.5g}" for value in (*stats.mean, *stats.std))
        height, width = self.recipe.data.transform.height_px, self.recipe.data.transform.width_px
        process, hashes = self.recipe.process, self.source.hashes
        entries = {
            "metric": f"held_out_loss(prediction={found.kind}, times={len(found.times)}, seed={_SEED})",
            "schedule": process.schedule.model_dump_json()
            + ("" if process.resolution is None else f" for {process.resolution.model_dump_json()}"),
            "latents": f"{self.encoders.autoencoder.fingerprint} {latents}",
            "transform": self.recipe.data.transform.model_dump_json(),
            "size_px": f"{height}x{width}",
            "n": str(found.count),
            "reference": content_hash(self.source, first_indices(_SEED, self.count, len(self.source)), world=self.world),
            "conditions": f"labels {hashes.labels}, captions {hashes.captions}",
            "interval": bootstrap.words,
            **self.groups,
        }
        return Result(found.mean, MeasurementProtocol(entries))

    def _encoded(self) -> Iterator[EncodedBatch]:
        encoder: LiveEncoder = build_encoder(self.recipe, self.known.facts, self.source, self.encoders)
        length = min(self.count, len(self.source))
        starts = range(self.world.rank * _AT_ONCE, length, self.world.size * _AT_ONCE)
        ranges = [range(start, min(start + _AT_ONCE, length)) for start in starts]
        cut, controls = self.recipe.data.transform, self.recipe.conditioning.controls
        measures, columns = measures_of(controls), columns_of_controls(controls)
        read = read_batches(self.source, cut, seed=_SEED, position_ranges=ranges, workers=0, measures=measures, columns=columns)
        return map(encoder.encode, read)
