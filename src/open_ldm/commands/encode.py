"""`ldm encode`: fill the cache of a recipe, alone or together with other processes, and say where the time went."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from open_ldm.autoencoders import LatentStats
from open_ldm.controls.data import survey_for
from open_ldm.core.counted import counted
from open_ldm.core.device import choose_device
from open_ldm.core.distributed import World
from open_ldm.core.errors import ConfigError, DataError
from open_ldm.core.events import Progress, duration
from open_ldm.core.overrides import apply_overrides
from open_ldm.core.shown import ShownAsText
from open_ldm.core.signals import StopRequest
from open_ldm.core.tasks import Task
from open_ldm.data.health import Health
from open_ldm.encoded.cache.build import Work
from open_ldm.encoded.cache.cache import Cache
from open_ldm.encoded.cache.verify import Checked, check_entries
from open_ldm.model.knowledge import Knowledge
from open_ldm.run_folder.own_folder import require_no_run
from open_ldm.runs.autoencoder_format import settle_format
from open_ldm.runs.build import read_facts
from open_ldm.runs.cache_filler import CacheFiller, build_cache, read_content_hash
from open_ldm.runs.cached_source import remember_source
from open_ldm.runs.encoders import load_encoders
from open_ldm.runs.held_out import keep_held_out
from open_ldm.runs.recipe import Recipe
from open_ldm.runs.shapes import buckets_of
from open_ldm.sources.loader import open_data
from open_ldm.training.parallel import require_same_recipe_on_all, world_of

ENTRIES = 16
"""How many entries of each section `--verify` makes again by default."""
_ALL = 1 << 62


@dataclass(frozen=True)
class EncodingResult(ShownAsText):
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
        what = f"{counted(self.pictures, 'picture')} × {counted(self.views, 'view')}"
        return (
            f"{what} in {self.path} after {duration(self.seconds)}: {shares};"
            f" {counted(self.files_written, 'file')} of {self.bytes_written / 1e6:,.1f} MB written"
        )

    def text(self) -> str:
        """The sentence, then how far entries that were made again differ, and sections that belong to other settings."""
        lines = [self.sentence()]
        if self.checked is not None:
            off = self.checked.difference
            again = counted(self.checked.entries, "entry made again differs", "entries made again differ")
            lines.append(f"{again} by {off:.2g} of the largest number at most")
        if self.unused:
            others = counted(len(self.unused), "other section there belongs", "other sections there belong")
            lines.append(f"{others} to other settings: {', '.join(self.unused)}")
        return "\n".join(lines)

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


def with_cache(load: Callable[[Sequence[str]], Recipe], overrides: Sequence[str], out: Path | None) -> Recipe:
    """Return the recipe that `load` gives for the overrides, with its cache in `out`.

    Without `out` the cache lies where the recipe says, or in caches/NAME if it says nothing.

    Raises:
        ConfigError: An override names another place than `out`.
    """
    if out is not None:
        _require_one_place(overrides, out)
    given = [*overrides, *([] if out is None else [_path_override(out)])]
    recipe = load(given)
    return recipe if recipe.cache is not None else load([*given, _path_override(Path("caches") / recipe.name)])


def _require_one_place(overrides: Sequence[str], out: Path) -> None:
    named = [each for each in overrides if each.partition("=")[0].strip() in ("cache", "cache.path")]
    cache = apply_overrides({}, named, Recipe).get("cache")
    path = cache.get("path") if isinstance(cache, dict) else None
    if path is not None and Path(str(path)).expanduser().resolve() != out.expanduser().resolve():
        raise ConfigError(
            f"cache.path={path} and --out {str(out)!r} both name the place of the cache",
            needed="one of them",
            fix=f"leave cache.path={path} out",
        )


def _path_override(path: Path) -> str:
    return f"cache.path={path}"


def encode(
    recipe: Recipe, *, verify: bool = False, entries: int | None = None, task: Task | None = None, silent: bool = False
) -> EncodingResult:
    """Fill the recipe's cache.

    Args:
        recipe: One with a cache.
        verify: Read all of the cache and make damaged files again, then compare `entries` of each section with new ones.
        entries: 16 by default, 0 for all.
        task: Which share of what is missing is made first; what others have yet to begin comes after it.
        silent: Show no progress.

    Raises:
        ConfigError: `entries` is given without `verify` or is below 0, or the cache would lie in a run folder.
        DataError: Stored entries do not belong to the pictures.
        StoppedError: A stop signal came (exit code 75).
    """
    if entries is not None and not verify:
        raise ConfigError(f"--entries {entries} has no effect", needed="--verify", fix="add --verify, or leave it out")
    if entries is not None and entries < 0:
        raise ConfigError(f"--entries {entries} is too small", needed="0, for all, or more")
    if recipe.cache is not None and recipe.cache.frozen:
        raise ConfigError(
            "cache.frozen=true encodes nothing", fix="leave it out here, and set it where the cache is trained from"
        )
    if recipe.cache is not None:
        require_no_run(recipe.cache.path, "cache")
    with StopRequest() as stop:
        world = world_of(recipe)
        with world.sharing_errors():
            require_same_recipe_on_all(recipe, world)
            compared = 0 if not verify else (ENTRIES if entries is None else entries) or _ALL
            return _encode(recipe, world, stop, compared, task, silent=silent)


def _encode(
    recipe: Recipe, world: World, stop: StopRequest, compared: int, task: Task | None, *, silent: bool
) -> EncodingResult:
    """Fill the recipe's cache. `compared`: how many entries of each section are verified; 0 verifies nothing."""
    started = time.perf_counter()
    machine = choose_device(recipe.training.device, recipe.training.dtype)
    source = open_data(recipe.data, captions=recipe.conditioning.reads_captions)
    seen = survey_for(recipe.conditioning.controls, source)
    facts = read_facts(recipe, source, seen)
    recipe, told = settle_format(recipe, source, machine, world, stop, silent=silent)
    with Progress(1, silent=silent or not world.leads) as progress:
        for line in told:
            progress.say(line)
    encoders = load_encoders(recipe, source, facts, machine)  # what does not fit is said before all pictures are read
    pictures = read_content_hash(source, stop, world, silent=silent)
    buckets = buckets_of(recipe.transform, source, world)
    with build_cache(recipe, source, pictures, encoders, buckets) as cache:
        filler = CacheFiller(cache, Health(len(source)), stop, world, silent=silent, task=task)
        opening = time.perf_counter() - started
        damaged = world.everyone(filler.drop_damaged, "a look at the whole cache") if compared else ()
        world.barrier("the cache")
        work = filler.fill()
        world.everyone(partial(remember_source, recipe, source, pictures), "the record of the data")
        unmeasured = LatentStats((0.0,) * facts.channels, (1.0,) * facts.channels)  # what is kept is raw
        keep_held_out(recipe, Knowledge(encoders.sign(facts), unmeasured), encoders, world)
        with work.during("comparing"):
            count = min(compared, len(source))
            checked = world.everyone(lambda: check_entries(cache, count), "a comparison of entries") if compared else None
        result = _result(cache, work, opening, time.perf_counter() - started, damaged, checked)
    if checked is not None and checked.wrong:
        sections = list(dict.fromkeys(str(wrong.section) for wrong in checked.wrong))
        raise DataError(
            f"{len(checked.wrong)} of {checked.entries} entries in {result.path} are wrong, the first: {checked.wrong[0].what}",
            needed="entries that these pictures, captions and encoders give",
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
