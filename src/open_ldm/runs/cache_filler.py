"""Filling the cache of a run's recipe, alone or together with other processes."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from open_ldm.conditioning.semantic import TextSemantic
from open_ldm.controls.data import columns_of_controls, measures_of
from open_ldm.core.distributed import World
from open_ldm.core.errors import DataError, DiskError
from open_ldm.core.events import Progress
from open_ldm.core.files import write_json
from open_ldm.core.signals import StopRequest
from open_ldm.core.tasks import Task
from open_ldm.data.buckets import Buckets
from open_ldm.data.content import content_hash
from open_ldm.data.health import Health
from open_ldm.data.sample import BadSample, Source
from open_ldm.encoded.cache.build import Work
from open_ldm.encoded.cache.cache import Cache, CaptionSettings
from open_ldm.encoded.cache.verify import drop_damaged
from open_ldm.runs.build import workers_of
from open_ldm.runs.cached_source import CachedSource
from open_ldm.runs.encoders import Encoders
from open_ldm.runs.recipe import Recipe

_SPOT_BYTES = 128 << 20
"""Of each section, at every start: a few tenths of a second."""


def read_content_hash(source: Source, stop: StopRequest, world: World, *, silent: bool) -> str:
    """Hash all pictures byte for byte and show how far it is.

    Raises:
        StoppedError: A stop signal came.
    """
    work = Work(stop_requested=lambda: stop.name is not None)
    share = -(-len(source) // world.size)
    with Progress(share, label="compare with the cache:", unit="pictures", silent=silent or not world.leads) as progress:

        def show(done: int) -> None:
            progress.update(done)
            work.check_stop()

        found = content_hash(source, world=world, on_pictures=show)
    world.agreed("data", found, DataError, fix="copy the same data to every machine, or share one disk")
    return found


def build_cache(recipe: Recipe, source: Source, pictures: str, encoders: Encoders, buckets: Buckets | None = None) -> Cache:
    """Open the recipe's cache, filled or not; it belongs to exactly these pictures, views and encoders.

    Args:
        recipe: One with a cache.
        source: The data set.
        pictures: What `read_content_hash` gave for it.
        encoders: Loaded.
        buckets: The shape of each picture's views; None where all have one.

    Raises:
        DataError: Only the cache is at hand, and it lacks a section.
    """
    assert recipe.cache is not None and recipe.data.views is not None
    semantic = recipe.conditioning.semantic
    captions = None
    if isinstance(semantic, TextSemantic) and encoders.text is not None and source.summary.captioned:
        captions = CaptionSettings(encoders.text, all_positions=semantic.padding == "encoder")
    return Cache(
        recipe.cache,
        source,
        pictures,
        recipe.transform,
        recipe.data.views,
        encoders.autoencoder,
        captions,
        encoders.machine.device,
        workers_of(recipe),
        measures_of(recipe.conditioning.controls),
        columns_of_controls(recipe.conditioning.controls),
        buckets,
        frozen=isinstance(source, CachedSource),
    )


class CacheFiller:
    """Fills a cache and shows on the way how far it is, and what had to be replaced or made again.

    With a `task` it begins with that share of what is missing, and then helps with what others have yet to begin.
    """

    def __init__(
        self, cache: Cache, health: Health, stop: StopRequest, world: World, *, silent: bool, task: Task | None = None
    ) -> None:
        self.cache, self.health, self.stop, self.world, self.task = cache, health, stop, world, task
        self.silent = silent or not world.leads
        self._progress = Progress(1, silent=self.silent)

    def fill(self) -> Work:
        """Make what is missing, together with every process that fills the same cache.

        Returns:
            What this process did.

        Raises:
            DataError: Too many samples are bad.
            StoppedError: A stop signal came.
        """
        work = Work(found_bad=self._found_bad, stop_requested=lambda: self.stop.name is not None, task=self.task)
        for part in self.cache.parts:
            rows = part.section.plan.rows
            lacking = sum(len(part.section.rows_of(shard)) for shard in part.section.missing())
            silent = self.silent or not lacking
            with Progress(rows, label=f"{part.label}:", unit="pictures", start=rows - lacking, silent=silent) as self._progress:
                work.progressed = _Counter(self._progress, rows - lacking).add
                part.fill(work)
                self._progress.update(rows)
        self.world.barrier("the end of encoding")
        self._found_bad(self.cache.open().bad)
        return work

    def spot_check(self) -> None:
        """Compare a part of what is finished with its hashes; where that shows damage, read the whole cache.

        What is damaged is removed, so that `fill` makes it again. `ldm encode --verify` reads all of it in any case.
        """
        if self.world.leads and any(part.section.looks_damaged(_SPOT_BYTES) for part in self.cache.parts):
            self.drop_damaged()
        self.world.barrier("the look at the cache")

    def require_sound(self) -> None:
        """Look at a part of the cache as `spot_check` does, and remove nothing, since nothing can be made again here.

        Raises:
            DataError: It is damaged, on every process.
        """

        def look() -> None:
            """Look at some bytes of every part. Raises DataError where one is damaged."""
            for part in self.cache.parts:
                if part.section.looks_damaged(_SPOT_BYTES):
                    raise DataError(f"{part.section.path} is damaged", fix="ldm encode --verify, where the pictures are")

        self.world.everyone(look, "the look at the cache")
        self._found_bad(self.cache.open().bad)

    def drop_damaged(self) -> tuple[str, ...]:
        """Read the whole cache and remove what is damaged, so that it is made again; returns one line for each of it."""
        found = []
        for problem in drop_damaged(self.cache):
            self._progress.say(f"warning: {problem}; it is made again")
            found.append(problem)
        return tuple(found)

    def _found_bad(self, bad: Iterable[BadSample]) -> None:
        new = self.health.add(bad)
        for sample in new:
            reason = f"{sample.reason} {sample.detail}".rstrip()
            self._progress.say(f"warning: bad sample {sample.id}: {reason} (another one takes its place)")
        if new and self.world.leads:
            with suppress(DiskError):  # a cache that cannot be written is read as ever, and its sections name them too
                write_json(self.cache.config.path / "health.json", self.health.to_json())
        self.health.check()


@dataclass
class _Counter:
    """Adds up rows for a progress line."""

    progress: Progress
    done: int

    def add(self, rows: int) -> None:
        """Count rows that are written, and show it."""
        self.done += rows
        self.progress.update(self.done)
