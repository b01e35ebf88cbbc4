"""A first guess for pictures without a recipe: what was found, a packaged recipe for it, and the settings that fit."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_ldm.core.errors import ConfigError, DataError, escaped
from open_ldm.core.overrides import last_given
from open_ldm.data import channels, pictures
from open_ldm.data.decoded import FileKind, kind_of
from open_ldm.data.ome import read_ome
from open_ldm.data.sample import BadPicture
from open_ldm.data.survey import spread
from open_ldm.run_folder.folder import is_run
from open_ldm.runs.catalogue import is_packaged
from open_ldm.runs.recipe_files import require_recipe_or_pictures
from open_ldm.sources.folder import FolderConfig, FolderSource
from open_ldm.sources.given_files import config_of
from open_ldm.sources.hub_table import TABLE_SUFFIXES
from open_ldm.sources.huggingface import HuggingFaceConfig, HuggingFaceSource
from open_ldm.sources.network import is_remote
from open_ldm.sources.shard_paths import is_pattern
from open_ldm.sources.shards import ShardsConfig, ShardsSource

_LOOKED_AT = 16
_SIZES_PX = (16, 32, 64)
_WITH_CAPTIONS, _OTHERS = "emoji-mmdit", "photos-dit"
_CLASSES = "conditioning.semantic={kind: class, route: context}"
_TWELVE_BITS = 4095
_SPLIT = "data.source.split="
_SPLITS = re.compile(r" holds the splits (.*?)(?:, which are no classes)?$")

FileSourceConfig = FolderConfig | ShardsConfig | HuggingFaceConfig
FileSource = FolderSource | ShardsSource | HuggingFaceSource


@dataclass(frozen=True)
class Guess:
    """A packaged recipe for data, the settings that make it fit, and what each follows from.

    Attributes:
        recipe: Name of the recipe.
        overrides: Settings as `key=value`.
        found: What the data hold, in words.
        split: Which of several splits was taken where none was named, in words; else empty.
        unused: Which captions or classes the recipe does not read, in words, and the setting that does; else empty.
    """

    recipe: str
    overrides: tuple[str, ...]
    found: str
    split: str = ""
    unused: str = ""

    def text(self) -> str:
        """Write what was found and the command that says it in full."""
        command = shlex.join(["ldm", "train", self.recipe, *self.overrides])
        notes = "".join(f"\n{note}" for note in (self.split, self.unused) if note)
        return f"found: {self.found}{notes}\na first guess, to be changed as you like:\n  {command}"


def is_data(given: str) -> bool:
    """Tell whether what stands in the place of a recipe is a folder, file or pattern of pictures: no packaged name or run."""
    path = Path(given).expanduser()
    if is_packaged(given) or is_run(path) or (path / "MANIFEST.json").is_file():
        return False
    if path.is_dir() or (path.is_file() and path.suffix.lower() in (".tar", *TABLE_SUFFIXES)):
        return True
    return path.suffix.lower() == ".tar" and is_pattern(path.name) and not is_remote(given)


def guess(given: str, split: str | None = None) -> Guess:
    """Look at pictures and choose a recipe.

    Args:
        given: A folder of pictures, of tar shards or of tables, one .tar, .parquet or .arrow file, or a pattern of .tar files.
        split: The one to look at, of data that hold several; None takes the training split.

    Raises:
        ConfigError: Its layout needs a setting that nothing in it says.
        DataError: It holds no pictures, or none that can be read.
    """
    path = Path(given).expanduser()
    # One channel admits every ending, so that nothing is overlooked.
    looked, taken = _with_split(config_of(path, channels=1), split)
    kinds, contents = _look(looked.open())
    config = looked.model_validate({**looked.model_dump(), "channels": None, **_own_channels(kinds, contents)})
    source = config.open()
    sides = sorted(min(size) for index in spread(len(source), _LOOKED_AT) if (size := _size(source, index)) is not None)
    if not sides:
        raise DataError(f"none of {len(source):,} pictures looked at in {given} can be read", needed="readable pictures")
    settings = {"kind": config.kind, **config.model_dump(mode="json", exclude_defaults=True)}
    captioned = _captions_are_read(source)
    name = re.sub(r"[^\w.-]+", "-", path.stem if path.is_file() else path.resolve().name).strip("-.") or "mine"
    plain = settings == {"kind": "folder", "path": settings["path"]}  # as the packaged recipes for files have it
    whole = f"data.source={json.dumps(settings, ensure_ascii=False)}"
    overrides = [f"name={name}", f"data.source.path={settings['path']}" if plain else whole]
    overrides.append(
        f"data.transform.size_px={max(size for size in _SIZES_PX if size <= max(_SIZES_PX[0], sides[len(sides) // 2]))}"
    )
    if config.channels is not None:
        overrides.append(f"autoencoder={{kind: identity, channels: {config.channels}}}")
    if not captioned and len(source.class_names) < 2:
        overrides.append("conditioning.semantic={kind: none}")
    common = Counter(map(str, kinds)).most_common(1)
    found = source.summary.sentence() + (f"; {common[0][0]}" if common else "")
    return Guess(_WITH_CAPTIONS if captioned else _OTHERS, tuple(overrides), found, taken, _unused(source))


def with_guess(recipe: str, overrides: Sequence[str]) -> tuple[str, list[str]]:
    """Return the recipe and overrides to load: those given, or for data in the place of a recipe a guess, which is printed.

    Raises:
        ConfigError: Nothing of that name is there; or what `guess` raises.
    """
    if not is_data(recipe):
        require_recipe_or_pictures(recipe)
        return recipe, list(overrides)
    split = next((each.removeprefix(_SPLIT) for each in reversed(overrides) if each.startswith(_SPLIT)), None)
    found = guess(recipe, split)
    print(escaped(found.text(), keep="\n"), file=sys.stderr)
    return found.recipe, last_given([*found.overrides, *overrides])


def _with_split(config: FileSourceConfig, wanted: str | None) -> tuple[FileSourceConfig, str]:
    """Take the wanted split of data that hold several, or the training split, and say so."""
    if wanted is not None and "split" in type(config).model_fields:
        return config.model_validate({**config.model_dump(), "split": wanted}), ""
    try:
        config.open()
    except (ConfigError, DataError) as error:
        setting, marker, fix = error.fix.partition(_SPLIT)
        if setting or not marker:
            raise
        split, there = fix.partition(", or data.source.path=")[0], _SPLITS.search(error.problem)
        taken = f"split: {split}{f' of {there[1]}' if there else ''}; {_SPLIT}NAME takes another"
        return config.model_validate({**config.model_dump(), "split": split}), taken
    return config, ""


def _captions_are_read(source: FileSource) -> bool:
    return 2 * source.summary.captioned > len(source)


def _unused(source: FileSource) -> str:
    """Say which captions or classes the guess leaves alone."""
    captions, classes = source.summary.captioned, len(source.class_names)
    if captions and not _captions_are_read(source):
        return (
            f"the guess does not use the {captions:,} captions, as no more than half of the pictures have one;"
            " conditioning.semantic.kind=text reads them"
        )
    if captions and classes > 1:
        return f"the guess uses the captions and not the {classes:,} classes; {shlex.quote(_CLASSES)} reads these"
    return ""


def _look(source: FileSource) -> tuple[list[FileKind], list[bytes]]:
    """Read the headers of a few files."""
    kinds, contents = [], []
    for index in spread(len(source), _LOOKED_AT):
        try:
            content = source.file_at(index)
            kinds.append(kind_of(content))
            contents.append(content)
        except BadPicture:
            continue
    return kinds, contents


def _own_channels(kinds: Sequence[FileKind], contents: Sequence[bytes]) -> dict[str, Any]:
    """Return the settings for pictures that RGB of 8 bits would not keep; empty for others. Raises DataError for floats."""
    own = [kind for kind in kinds if kind.own_channels]
    if 2 * len(own) <= len(kinds):
        return {}
    kind = Counter(own).most_common(1)[0][0]
    if kind.bits > 16:
        raise DataError(
            f"the pictures hold numbers of {kind.bits} bits, whose range nothing says",
            fix=f"name a recipe and set data.source.channels={kind.channels} data.source.channel_range=[[LOW, HIGH]]",
        )
    settings: dict[str, Any] = {"channels": kind.channels}
    if kind.bits > 8:
        settings["bits"] = 16
        if _highest(contents, kind.channels) <= _TWELVE_BITS:
            settings["channel_range"] = [[0, _TWELVE_BITS]]
    names = read_ome(contents[0]).channels
    return settings | ({"channel_names": names} if len(names) == kind.channels and all(names) else {})


def _highest(contents: Sequence[bytes], count: int) -> int:
    highest = 0
    for content in contents:
        try:
            highest = max(highest, int(channels.decode(content, count, None, pictures.MOST_MEGAPIXELS, bits=16).max()))
        except BadPicture:
            continue
    return highest


def _size(source: FileSource, index: int) -> tuple[int, int] | None:
    try:
        return source.size_of(index)
    except BadPicture:
        return None
