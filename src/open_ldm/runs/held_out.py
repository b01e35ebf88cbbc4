"""Held-out loss of a run: on pictures its data.holdout keeps from training, during training and after."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from open_ldm.controls.data import columns_of_controls, measures_of
from open_ldm.core.distributed import World
from open_ldm.core.errors import DiskError
from open_ldm.core.out_of_memory import naming_lack_of_memory
from open_ldm.data.bucket_shapes import Shape
from open_ldm.data.buckets import Buckets
from open_ldm.data.content import content_hash
from open_ldm.data.order import ShuffledOrder, first_indices
from open_ldm.data.sample import Source
from open_ldm.encoded.batch import EncodedBatch, LiveEncoder
from open_ldm.evaluation.bootstrap import BootstrapConfig
from open_ldm.evaluation.held_out_loss import HeldOutLoss, held_out_loss
from open_ldm.evaluation.protocol import MeasurementProtocol, Result
from open_ldm.model.diffusion import DiffusionModel
from open_ldm.model.knowledge import Knowledge
from open_ldm.process.prediction import PredictionKind
from open_ldm.runs.cached_source import record_of
from open_ldm.runs.encoders import Encoders, build_encoder
from open_ldm.runs.kept_held_out import folder_of, keep_batches, kept_batches, read_by
from open_ldm.runs.recipe import Recipe
from open_ldm.runs.shapes import buckets_of
from open_ldm.sources.files import NoSuchPath
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
        if self.kept is not None:
            return dict(self._read[1]["groups"])
        groups = getattr(self.source, "groups", None)
        return {} if groups is None else {"groups": groups.sentence()}

    @property
    def batches(self) -> list[EncodedBatch]:
        """This process's share of the pictures, encoded."""
        return self._read[0]

    @cached_property
    def kept(self) -> Path | None:
        """Where encoded pictures are read in the place of pictures, which are not at hand; None where they are."""
        cache = self.recipe.cache
        if cache is None:
            return None
        with suppress(NoSuchPath):
            if not cache.frozen:
                _ = self.source
                return None
        return self._folder

    def keep(self) -> None:
        """Encode the pictures and write them into the cache, or read them from there where no pictures are.

        Raises:
            DataError: The cache does not hold them either, or they are damaged.
            DiskError: The cache cannot be written.
        """
        if self.kept is not None:
            _ = self._read  # now, and not at the first measurement, hours later and before the checkpoint of that place
        else:
            numbers = range(self.world.rank, len(self._read[0]) * self.world.size, self.world.size)
            batches = dict(zip(numbers, self.batches, strict=False))
            keep_batches(self._folder, batches, {**self._said, "groups": self.groups, "portions": self._portions_of_all})

    @property
    def _folder(self) -> Path:
        """Where the encoded pictures of these settings lie in the cache."""
        assert self.recipe.cache is not None
        cache, text, conditioning = self.recipe.cache.path, self.encoders.text, self.recipe.conditioning
        made_from = {
            "data": record_of(self.recipe).name,
            "transform": self.recipe.transform.model_dump(mode="json"),
            "count": self.count,
            "seed": _SEED,
            "encoders": [self.encoders.autoencoder.fingerprint, None if text is None else text.fingerprint],
            "facts": self.known.facts.to_json(),
        }
        earlier = folder_of(cache, {**made_from, "conditioning": conditioning.model_dump(mode="json")})
        return earlier if earlier.is_dir() else folder_of(cache, {**made_from, "conditioning": read_by(conditioning)})

    @property
    def _said(self) -> dict[str, str]:
        """What the protocol of a measurement says of the pictures."""
        if self.kept is not None:
            return {name: str(self._read[1][name]) for name in ("reference", "conditions")}
        hashes, indices = self.source.hashes, first_indices(_SEED, self.count, len(self.source))
        return {
            "reference": content_hash(self.source, indices, world=self.world),
            "conditions": f"labels {hashes.labels}, captions {hashes.captions}",
        }

    @cached_property
    def _read(self) -> tuple[list[EncodedBatch], dict[str, Any]]:
        """This process's share of the pictures, encoded now or before, and what is said of those encoded before."""
        if self.kept is None:
            return list(self._encoded()), {}
        said = kept_batches(self.kept, [0], self.encoders.machine.device)[1]
        numbers = range(self.world.rank, int(said["portions"]), self.world.size)
        return kept_batches(self.kept, numbers, self.encoders.machine.device)[0], said

    def loss(
        self, model: DiffusionModel, bootstrap: BootstrapConfig | None = None, *, kind: PredictionKind | None = None
    ) -> HeldOutLoss:
        """Measure the held-out loss of a model of this recipe.

        Args:
            model: On the device of the encoders.
            bootstrap: How intervals are found; None for the default.
            kind: Kind of prediction as which errors are told; None for the model's own.

        Returns:
            The loss at each time and in the mean, the same on every process.
        """
        return held_out_loss(
            model,
            self.known.stats,
            self.recipe.conditioning,
            self.batches,
            kind=kind,
            seed=_SEED,
            bootstrap=bootstrap,
            world=self.world,
            factor=self.recipe.autoencoder.factor,
        )

    def result(self, found: HeldOutLoss, bootstrap: BootstrapConfig) -> Result:
        """The mean over all times as a result of an evaluation, with the protocol that it was measured by.

        The schedule is part of the protocol: a time means another amount of noise under another schedule.
        """
        stats = self.known.stats
        latents = " ".join(f"{value:.5g}" for value in (*stats.mean, *stats.std))
        height, width = self.recipe.transform.base
        process = self.recipe.process
        entries = {
            "metric": f"held_out_loss(prediction={found.kind}, times={len(found.times)}, seed={_SEED})",
            "schedule": process.schedule.model_dump_json()
            + ("" if process.resolution is None else f" for {process.resolution.model_dump_json()}"),
            "latents": f"{self.encoders.autoencoder.fingerprint} {latents}",
            "transform": self.recipe.transform.model_dump_json(),
            "size_px": f"{height}x{width}" + ("" if self.recipe.transform.buckets is None else " in buckets"),
            "n": str(found.count),
            **self._said,
            "interval": bootstrap.words,
            **self.groups,
        }
        return Result(found.mean, MeasurementProtocol(entries))

    def _encoded(self) -> Iterator[EncodedBatch]:
        encoder: LiveEncoder = build_encoder(self.recipe, self.known.facts, self.source, self.encoders)
        controls, buckets = self.recipe.conditioning.controls, buckets_of(self.recipe.transform, self.source, self.world)
        order, portions = self._order(buckets), self._portions(buckets)
        read = read_batches(
            self.source,
            self.recipe.transform,
            seed=_SEED,
            position_ranges=portions[self.world.rank :: self.world.size],
            workers=0,
            measures=measures_of(controls),
            columns=columns_of_controls(controls),
            order=order,
        )
        return map(encoder.encode, read)

    def _order(self, buckets: Buckets | None) -> ShuffledOrder:
        return ShuffledOrder(_SEED, len(self.source), buckets=buckets)

    def _portions(self, buckets: Buckets | None) -> list[Sequence[int]]:
        return _portions(self._order(buckets), min(self.count, len(self.source)))

    @property
    def _portions_of_all(self) -> int:
        """Number of portions that all processes read together."""
        return sum(self.world.gathered(len(self.batches), "portions of held-out pictures"))


def keep_held_out(recipe: Recipe, known: Knowledge, encoders: Encoders, world: World) -> HeldOutPictures | None:
    """Return the held-out pictures of a recipe, which are encoded into its cache now if it has one; None without any.

    Raises:
        DataError: Only a cache is at hand, and it does not hold them.
    """
    if recipe.held_out is None:
        return None
    pictures = HeldOutPictures(recipe, known, encoders, recipe.held_out.pictures, world)
    if recipe.cache is not None:
        lack = naming_lack_of_memory("while held-out pictures were encoded", lambda: "held_out=null")
        with lack, suppress(DiskError):  # a cache that cannot be written is read as ever
            pictures.keep()
    return pictures


def _portions(order: ShuffledOrder, length: int) -> list[Sequence[int]]:
    """Cut the first positions of an order into portions of views of one shape."""
    by_shape: dict[Shape | None, list[int]] = {}
    for position in range(length):
        by_shape.setdefault(order.view_at(position).shape, []).append(position)
    return [own[start : start + _AT_ONCE] for own in by_shape.values() for start in range(0, len(own), _AT_ONCE)]
