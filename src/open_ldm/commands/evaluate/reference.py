"""The data that pictures are compared with: opened by name or path, measured once and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from open_ldm.commands.evaluate.stored_pictures import open_pictures
from open_ldm.core.distributed import World
from open_ldm.core.errors import ConfigError, DataError, cut
from open_ldm.core.hashes import hash_content
from open_ldm.data.holdout import PartName
from open_ldm.data.sample import Source
from open_ldm.evaluation.features import FeatureExtractor
from open_ldm.evaluation.pictures import Pictures, content_of, pictures_of
from open_ldm.evaluation.reference import load_statistics, save_statistics
from open_ldm.evaluation.statistics import BANK_CAPACITY, Statistics, collect, nothing_of
from open_ldm.run_folder.folder import is_run
from open_ldm.runs.autoencoder.recipe import load_any_recipe
from open_ldm.runs.catalogue import is_packaged
from open_ldm.sources.loader import DataConfig, open_data

CACHE = Path("caches") / "references"
_RULE = 2
"""Number of the rule by which references are measured; part of what names them."""

OnPictures = Callable[[int], None]


def open_against(against: DataConfig | str | Path, part: PartName = "train", changes: Sequence[str] = ()) -> Source:
    """Open a recipe's data (by a packaged name, a YAML file or a run folder), a folder of pictures, tar shards or an array.

    `part`: of data with a holdout. `changes`: assignments to a recipe.

    Raises ConfigError when there is no such thing, DataError for unusable content.
    """
    if isinstance(against, DataConfig):
        return open_data(against, part)
    name = str(against)
    path = Path(name).expanduser()
    if is_packaged(name) or path.suffix in (".yaml", ".yml") or is_run(path):
        return open_data(load_any_recipe(name, changes).data, part)
    if changes:
        raise ConfigError(
            f"{cut(changes[0])} changes a recipe, and {cut(name)} is pictures", fix="leave it out, or name a recipe"
        )
    if part != "train":
        raise ConfigError(f"{name} has no held-out part", needed="a recipe or a run folder whose data has a holdout")
    return open_pictures(path)


def reference_statistics(
    source: Source,
    size_px: tuple[int, int],
    extractors: Sequence[FeatureExtractor],
    *,
    count: int | None,
    cache: Path | None,
    world: World,
    on_pictures: OnPictures = lambda seen: None,
    on_compared: OnPictures = lambda seen: None,
) -> tuple[Statistics, ...]:
    """Statistics of the first `count` pictures (all: None) of a source's shuffled order, for each extractor.

    What lies in `cache` is read instead of measured; it is named by what the pictures are (the index and their bytes), the size
    they are brought to, the count, and the extractor. `cache` None keeps nothing. `on_compared`: pictures whose bytes are
    known. Of several processes the leading one alone gets single pictures, or what was kept.
    """
    length = min(len(source), count or len(source))
    capacity = max(BANK_CAPACITY, length) if count is None else BANK_CAPACITY
    content = "" if cache is None else content_of(source, length, world, on_compared)
    folders = [_folder(cache, content, size_px, length, capacity, extractor) for extractor in extractors]
    kept = [_kept(folder) for folder in folders] if world.leads else [nothing_of(extractor) for extractor in extractors]
    missing = world.everyone(lambda: [index for index, one in enumerate(kept) if one is None], "statistics that are kept")
    if missing:
        batches = counted(pictures_of(source, size_px, count=length, world=world), on_pictures)
        measured = collect(batches, [extractors[index] for index in missing], capacity=capacity, world=world)
        for index, one in zip(missing, measured, strict=True):
            kept[index] = one
            if (folder := folders[index]) is not None and world.leads:
                save_statistics(folder, one)
    return tuple(one for one in kept if one is not None)


def counted(batches: Iterator[Pictures], on_pictures: OnPictures) -> Iterator[Pictures]:
    """Pass batches on and report how many pictures went by."""
    seen = 0
    for batch in batches:
        seen += len(batch.images)
        yield batch
        on_pictures(seen)


def _folder(
    cache: Path | None, content: str, size_px: tuple[int, int], length: int, capacity: int, extractor: FeatureExtractor
) -> Path | None:
    if cache is None:
        return None
    named = [_RULE, content, list(size_px), length, capacity, extractor.id.to_json()]
    return cache / hash_content(named)[:24]


def _kept(folder: Path | None) -> Statistics | None:
    """Load what the cache holds; None where it is missing or damaged."""
    if folder is None or not folder.is_dir():
        return None
    try:
        return load_statistics(folder)
    except DataError:
        return None
