"""What a cache remembers of the data set that it was made of, so that training goes on where no pictures are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from open_ldm.conditioning.semantic import TextSemantic
from open_ldm.controls.data import columns_of_controls, measures_of
from open_ldm.core.errors import ConfigError, DataError
from open_ldm.core.files import write_json
from open_ldm.core.hashes import hash_content
from open_ldm.core.plain_data import parse_json, plain
from open_ldm.data.permutation import Indices
from open_ldm.data.sample import BadPicture, IndexHashes, Sample, Source, SourceSummary
from open_ldm.data.survey import some_captions, spread
from open_ldm.encoded.cache.mapped import MappedSection
from open_ldm.encoded.cache.samples import NO_LABEL, ROWS_PER_SHARD, samples_plan
from open_ldm.encoded.cache.section import Section
from open_ldm.runs.preview import evenly
from open_ldm.runs.recipe import Recipe
from open_ldm.sources.files import NoSuchPath
from open_ldm.sources.loader import open_data
from open_ldm.text import WordsConfig

NOT_HERE = "no picture at hand"
_SCHEMA = 1
_EXAMINED = 2000
_NOT_OF_THE_DATA = ("workers", "display", "order", "views", "transform")


@dataclass(frozen=True)
class CachedSource:
    """Stands for a data set of which only the cache is at hand: its index in words, labels and ids, and no picture.

    Attributes:
        cache: The folder of the cache.
        record: What was written of the data set, as plain data.
    """

    cache: Path
    record: dict[str, Any]

    @property
    def pictures(self) -> str:
        """The `content_hash` of the pictures that the cache was made of."""
        return str(self.record["pictures"])

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in label order."""
        return tuple(self.record["class_names"])

    @property
    def summary(self) -> SourceSummary:
        """What the data set contains."""
        return SourceSummary(**self.record["summary"])

    @property
    def fingerprint(self) -> str:
        """Hash of the data set's index."""
        return str(self.record["fingerprint"])

    @property
    def hashes(self) -> IndexHashes:
        """Hashes of the data set's index, in parts."""
        return IndexHashes(**self.record["hashes"])

    @property
    def shard_sizes(self) -> Indices | None:
        """Samples of each shard; None for a data set without shards."""
        sizes = self.record["shard_sizes"]
        return None if sizes is None else np.array(sizes, dtype=np.int64)

    def digests(self, indices: Sequence[int], on_pictures: Callable[[int], None]) -> list[bytes | BadPicture]:
        """Say of each picture that it is not at hand."""
        return [BadPicture(NOT_HERE, of_disk=True) for _ in indices]

    def __len__(self) -> int:
        return int(self.record["length"])

    def __getitem__(self, index: int) -> Sample:
        raise BadPicture(NOT_HERE, self.sample_id(index))

    def sample_id(self, index: int) -> str:
        """Return the id of a sample."""
        arrays, at = self._samples.at(index)
        begin, end = arrays["begin"][at : at + 2].tolist()
        return bytes(arrays["ids"][begin:end]).decode()

    def size_of(self, index: int) -> tuple[int, int]:
        """Return the original (height, width) of one of the samples that a survey looks at. Raises BadPicture."""
        found = self._sizes.get(index)
        if found is None:
            raise BadPicture(NOT_HERE, self.sample_id(index))
        if isinstance(found[0], str):
            raise BadPicture(*found)
        return found[0], found[1]

    def label_of(self, index: int) -> int | None:
        """Return the class of a sample; None when it has none."""
        arrays, at = self._samples.at(index)
        label = int(arrays["label"][at])
        return None if label == NO_LABEL else label

    def captions_of(self, index: int) -> tuple[str, ...]:
        """Return nothing: the cache holds tokens."""
        return ()

    def captions(self) -> list[str]:
        """Return the captions that previews show, which alone were kept."""
        return list(self.record["captions"])

    @cached_property
    def _samples(self) -> MappedSection:
        plan = samples_plan(self.hashes, len(self), self.class_names)
        return MappedSection(Section(self.cache, plan, lambda: ROWS_PER_SHARD, begins=False))

    @cached_property
    def _sizes(self) -> dict[int, tuple[Any, ...]]:
        return {int(index): tuple(found) for index, *found in self.record["sizes"]}


def open_training_data(recipe: Recipe) -> Source:
    """Open what a recipe trains on: its pictures, or in their place what its cache remembers of them.

    That is so for `cache.frozen`, and where there is nothing at the path of the pictures.

    Raises:
        ConfigError: The path is wrong, and no cache remembers the data; or the recipe needs the pictures.
        DataError: The content is unusable, or the cache's record is damaged.
    """
    if recipe.cache is not None and recipe.cache.frozen:
        return _remembered(recipe, "cache.frozen is set")
    try:
        return open_data(recipe.data, captions=recipe.conditioning.reads_captions)
    except NoSuchPath as error:
        if recipe.cache is None or not record_of(recipe).is_file():
            raise
        return _remembered(recipe, error.problem)


def record_of(recipe: Recipe) -> Path:
    """Return the path of the record of a recipe's data in its cache."""
    assert recipe.cache is not None
    data = recipe.data.model_dump(mode="json", exclude=set(_NOT_OF_THE_DATA))
    for source in (data["source"], data["source"].get("of", {})):
        source.pop("remote", None)  # how they come here
    stated = {"schema": _SCHEMA, "data": data, "captions": recipe.conditioning.reads_captions}
    return recipe.cache.path / f"source-{hash_content(stated)[:16]}.json"


def remember_source(recipe: Recipe, source: Source, pictures: str) -> None:
    """Write into a recipe's cache what is needed of the data set where its pictures are not, unless it says so already.

    Args:
        recipe: One with a cache.
        source: The data set.
        pictures: Its `content_hash`.

    Raises:
        DiskError: The disk refuses.
    """
    shards: Indices | None = getattr(source, "shard_sizes", None)
    stated = {
        "pictures": pictures,
        "fingerprint": source.fingerprint,
        "hashes": asdict(source.hashes),
        "length": len(source),
        "class_names": list(source.class_names),
        "summary": asdict(source.summary),
        "shard_sizes": None if shards is None else shards.tolist(),
        "previews": recipe.preview.count,
    }
    if _says(record_of(recipe), plain(stated)):
        return
    sizes: list[list[Any]] = []
    for index in spread(len(source), _EXAMINED):
        try:
            sizes.append([index, *source.size_of(index)])
        except BadPicture as verdict:
            sizes.append([index, verdict.reason, verdict.detail])
    captions = evenly(sorted(set(some_captions(source))), recipe.preview.count)
    content = plain({**stated, "captions": captions, "sizes": sizes})
    write_json(record_of(recipe), {**content, "sha256": hash_content(content)})


def _read_record(path: Path) -> dict[str, Any]:
    """Read a record. Raises ValueError, KeyError or OSError where it is not there or damaged."""
    record = parse_json(path.read_text(encoding="utf-8"))
    if not isinstance(record, dict) or record.pop("sha256") != hash_content(record):
        raise ValueError("its hash does not fit")
    return record


def _says(path: Path, stated: Mapping[str, Any]) -> bool:
    """Whether a record says this of the data; captions and sizes then follow."""
    try:
        record = _read_record(path)
    except (OSError, ValueError, KeyError):
        return False
    return all(name in record and record[name] == value for name, value in stated.items())


def require_data_for_facts(recipe: Recipe, source: Source) -> None:
    """Refuse to learn of the data, for a new model, what only pictures and captions tell, where they are not at hand.

    Raises:
        ConfigError: The recipe's model is of words, or its controls measure pixels.
    """
    semantic = recipe.conditioning.semantic
    needed = [f"controls that measure {', '.join(names)}"] if (names := measures_of(recipe.conditioning.controls)) else []
    if isinstance(semantic, TextSemantic) and isinstance(semantic.encoder, WordsConfig):
        needed.append("a vocabulary of all captions")
    if isinstance(source, CachedSource) and needed:
        raise ConfigError(
            f"a new model needs pictures and captions for {' and '.join(needed)}, and only the cache is at hand",
            fix="begin the run where they are; it can go on here",
        )


def from_latents(source: Source) -> list[str]:
    """Say, in one line, that a training reads no pictures; nothing where it does."""
    if not isinstance(source, CachedSource):
        return []
    return [f"no pictures are read: training is from the cache {source.cache}, which remembers the data it was made of"]


def _remembered(recipe: Recipe, why: str) -> CachedSource:
    path = record_of(recipe)
    if recipe.data.transform.buckets is not None:
        raise ConfigError(f"{why}, and data.transform.buckets needs the sizes of all pictures", fix="train where they are")
    if columns := columns_of_controls(recipe.conditioning.controls):
        raise ConfigError(f"{why}, and controls read metadata ({', '.join(columns)})", fix="train where the data are")
    if recipe.cache is not None and not path.is_file():
        raise ConfigError(
            f"{why}, and cache {recipe.cache.path} does not remember these data",
            needed="a whole cache of the same data settings",
            fix="ldm encode where the pictures are, or data.source as it was there",
        )
    try:
        return CachedSource(path.parent, _read_record(path))
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} is damaged ({error})", fix="ldm encode, where the pictures are") from error
