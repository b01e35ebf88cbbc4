"""`ldm encode`: fill the cache of a recipe, alone or together with other processes, and say where the time went."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_ldm.core.device import set_up_machine
from open_ldm.core.distributed import join_world
from open_ldm.core.errors import DataError
from open_ldm.core.events import duration
from open_ldm.core.signals import StopRequest
from open_ldm.data.health import Health
from open_ldm.data.loader import open_data
from open_ldm.data.survey import survey
from open_ldm.encoded.cache.build import Work
from open_ldm.encoded.cache.cache import Cache
from open_ldm.encoded.cache.verify import Checked, check_entries
from open_ldm.runs.build import read_facts
from open_ldm.runs.cache_filler import CacheFiller, build_cache, read_content_hash
from open_ldm.runs.encoders import load_encoders
from open_ldm.runs.recipe import Recipe

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
        machine = set_up_machine(recipe.training.device, recipe.training.dtype, recipe.training.deterministic)
        world = join_world(machine.device)
        source = open_data(recipe.data)
        seen = survey(source)
        facts = read_facts(recipe, source, seen)
        encoders = load_encoders(recipe, source, facts, machine)  # what does not fit is said before all pictures are read
        pictures = read_content_hash(source, stop, world, silent=silent)
        with build_cache(recipe, source, pictures, encoders) as cache:
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
