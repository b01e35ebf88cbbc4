"""`ldm encode`: fill the cache of a recipe, alone or together with other processes, and say where the time went."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_ldm.conditioning.semantic import TextSemantic
from open_ldm.core.device import choose_machine
from open_ldm.core.distributed import World, join_world
from open_ldm.core.errors import DataError
from open_ldm.core.events import Progress, duration
from open_ldm.core.files import write_json
from open_ldm.data.content import content_hash
from open_ldm.data.health import Health
from open_ldm.data.loader import open_data
from open_ldm.data.sample import BadSample, Source
from open_ldm.data.survey import survey
from open_ldm.encoded.cache.build import Work
from open_ldm.encoded.cache.cache import Cache, CaptionSettings
from open_ldm.encoded.cache.verify import Checked, check_entries, drop_damaged
from open_ldm.runs.assemble import Encoders, encoders_of, facts_of, workers_of
from open_ldm.runs.recipe import Recipe
from open_ldm.training.signals import StopRequest

ENTRIES = 16
"""Of each section, made again by `--verify` unless told otherwise."""


@dataclass(frozen=True)
class EncodingResult:
    """What `ldm encode` did. `split`: share of the time by kind of work; `damaged`: files that were made again."""

    path: Path
    sections: tuple[str, ...]
    unused: tuple[str, ...]
    pictures: int
    views: int
    bytes_written: int
    files_written: int
    seconds: float
    split: Mapping[str, float]
    damaged: tuple[str, ...]
    checked: Checked | None

    def sentence(self) -> str:
        """'1,000 pictures x 4 views in caches/photos after 12 min 04 s: autoencoder 97 %, reading 1 %, ...'."""
        shares = ", ".join(f"{kind} {100 * share:.1f} %" for kind, share in self.split.items())
        return (
            f"{self.pictures:,} pictures × {self.views} views in {self.path} after {duration(self.seconds)}: {shares};"
            f" {self.files_written:,} files of {self.bytes_written / 1e6:,.1f} MB written"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "cache": str(self.path),
            "sections": list(self.sections),
            "unused": list(self.unused),
            "pictures": self.pictures,
            "views": self.views,
            "bytes_written": self.bytes_written,
            "files_written": self.files_written,
            "seconds": round(self.seconds, 2),
            "split": {kind: round(share, 4) for kind, share in self.split.items()},
            "damaged": list(self.damaged),
            "checked": None if self.checked is None else self.checked.entries,
            "largest_difference": None if self.checked is None else self.checked.difference,
        }


def encode(recipe: Recipe, *, verify: bool = False, entries: int = ENTRIES, silent: bool = False) -> EncodingResult:
    """Fill the recipe's cache; with `verify` read all of it, make damaged files again, and for comparison `entries` of each
    section, 0 all.

    Raises DataError when stored entries do not belong to the pictures, and StoppedError (exit 75) on a stop signal.
    """
    started = time.perf_counter()
    with StopRequest() as stop:
        machine = choose_machine(recipe.training.device, recipe.training.dtype, recipe.training.deterministic)
        world = join_world(machine.device)
        source = open_data(recipe.data)
        seen = survey(source)
        facts = facts_of(recipe, source, seen)
        encoders = encoders_of(recipe, source, facts, machine)  # what does not fit is said before all pictures are read
        pictures = content_of(source, stop, world, silent=silent)
        with cache_of(recipe, source, pictures, encoders) as cache:
            filler = CacheFiller(cache, Health(len(source)), stop, world, silent=silent)
            opening = time.perf_counter() - started
            damaged = filler.drop_damaged() if verify and world.leads else ()
            world.barrier()
            work = filler.fill()
            with work.during("comparing"):
                checked = check_entries(cache, entries or len(source)) if verify and world.leads else None
            result = _result(cache, work, opening, time.perf_counter() - started, damaged, checked)
    if checked is not None and checked.wrong:
        sections = list(dict.fromkeys(str(wrong.section) for wrong in checked.wrong))
        raise DataError(
            f"{len(checked.wrong)} of {checked.entries} entries in {result.path} are wrong, the first: {checked.wrong[0].what}",
            needed="what its pictures, captions and encoders give",
            fix=f"rm -r {shlex.join(sections)}, and encode again; the other sections can stay",
        )
    return result


def content_of(source: Source, stop: StopRequest, world: World, *, silent: bool) -> str:
    """Hash of all pictures, byte for byte; how far it is is shown. Raises StoppedError on a stop signal."""
    work = Work(stop_requested=lambda: stop.name is not None)
    share = -(-len(source) // world.size)
    with Progress(share, label="compare with the cache:", unit="pictures", silent=silent or not world.leads) as progress:

        def told(done: int) -> None:
            progress.update(done)
            work.check_stop()

        return content_hash(source, world=world, on_pictures=told)


def cache_of(recipe: Recipe, source: Source, pictures: str, encoders: Encoders) -> Cache:
    """The recipe's cache, filled or not. `pictures`: their `content_of`."""
    assert recipe.cache is not None and recipe.data.views is not None
    semantic = recipe.conditioning.semantic
    captions = None
    if isinstance(semantic, TextSemantic) and encoders.text is not None and source.summary.captioned:
        captions = CaptionSettings(encoders.text, all_places=semantic.padding == "encoder")
    return Cache(
        recipe.cache,
        source,
        pictures,
        recipe.data.transform,
        recipe.data.views,
        encoders.autoencoder,
        captions,
        encoders.machine.device,
        workers_of(recipe),
    )


class CacheFiller:
    """Fills a cache and tells people on the way: how far it is, and what had to be replaced or made again."""

    def __init__(self, cache: Cache, health: Health, stop: StopRequest, world: World, *, silent: bool) -> None:
        self.cache, self.health, self.stop, self.world = cache, health, stop, world
        self.silent = silent or not world.leads
        self._progress = Progress(1, silent=self.silent)

    def fill(self) -> Work:
        """Make what is missing, together with whoever else does. Raises DataError when too many samples are bad."""
        work = Work(found_bad=self._found_bad, stop_requested=lambda: self.stop.name is not None)
        for part in self.cache.parts:
            rows = part.section.plan.rows
            lacking = sum(len(part.section.rows_of(shard)) for shard in part.section.missing())
            silent = self.silent or not lacking
            with Progress(rows, label=f"{part.label}:", unit="pictures", start=rows - lacking, silent=silent) as self._progress:
                work.progressed = _Counter(self._progress, rows - lacking).add
                part.fill(work)
                self._progress.update(rows)
        self.world.barrier()
        self._found_bad(self.cache.open().bad)
        return work

    def drop_damaged(self) -> tuple[str, ...]:
        """Read everything, and forget what is damaged, saying so."""
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
            write_json(self.cache.config.path / "health.json", self.health.to_json())
        self.health.check()


@dataclass
class _Counter:
    """Adds up rows for a progress line."""

    progress: Progress
    done: int

    def add(self, rows: int) -> None:
        self.done += rows
        self.progress.update(self.done)


def _result(
    cache: Cache, work: Work, opening: float, seconds: float, damaged: Sequence[str], checked: Checked | None
) -> EncodingResult:
    kinds = {"opening": opening, **work.seconds}
    kinds["other"] = max(0.0, seconds - sum(kinds.values()))
    return EncodingResult(
        path=cache.config.path,
        sections=tuple(part.section.path.name for part in cache.parts),
        unused=tuple(cache.unused()),
        pictures=len(cache.source),
        views=len(cache.latents),
        bytes_written=work.bytes_written,
        files_written=work.shards_written,
        seconds=seconds,
        split={kind: spent / seconds for kind, spent in sorted(kinds.items(), key=lambda item: -item[1])},
        damaged=tuple(damaged),
        checked=checked,
    )
