"""Pictures given without a recipe: a folder, shards, a table or an array, without the grid of `ldm sample` among them."""

from __future__ import annotations

import sys
from pathlib import Path

from open_ldm.commands.samples import GRID, SAMPLES
from open_ldm.core.counted import counted
from open_ldm.core.errors import ConfigError, DataError
from open_ldm.core.plain_data import parse_json
from open_ldm.data.holdout import Part
from open_ldm.data.sample import Source
from open_ldm.sources.array_pictures import ARRAY_FILE, open_array
from open_ldm.sources.given_files import config_of


def open_pictures(path: Path) -> Source:
    """Open a folder of pictures, .tar files by a folder, a name or a pattern, a table of `datasets`, or an .npz file.

    Raises ConfigError or DataError for what is none of these, or can be read in several ways.
    """
    if path.suffix.lower() == ".npz":
        return open_array(path)
    if (path / ARRAY_FILE).is_file() and are_samples(path):  # both: a folder of `ldm sample --npz`
        return open_array(path / ARRAY_FILE)
    try:
        source = config_of(path).open()
    except (ConfigError, DataError) as error:
        of_a_recipe = error.fix.startswith("data.source.")
        fix = f"in its place a recipe file that reads it, with {error.fix}" if of_a_recipe else error.fix
        problem = error.problem.removeprefix("data.source.path ")  # nobody gave a setting
        raise type(error)(problem, needed=error.needed, fix=fix) from error
    return _sampled(source, path) if are_samples(path) else source


def are_samples(path: Path) -> bool:
    """Tell whether a path is a folder that `ldm sample` wrote."""
    return (path / SAMPLES).is_file()


def _without(source: Source, name: str) -> Source:
    """All pictures but one: the grid that `ldm sample` puts beside its pictures."""
    kept = [index for index in range(len(source)) if source.sample_id(index) != name]
    return Part(source, kept, "drawn", f"without {name}")


def _sampled(source: Source, folder: Path) -> Source:
    """The pictures that samples.json lists, which are all but the grid unless older ones lie among them."""
    try:
        content = parse_json((folder / SAMPLES).read_text(encoding="utf-8"), finite=False)
        listed = {str(picture["file"]) for picture in content["pictures"]}
        exact = {str(picture["numbers"]) for picture in content["pictures"] if "numbers" in picture}
    except (OSError, ValueError, KeyError, TypeError):
        return _without(source, GRID)
    kept = [index for index in range(len(source)) if source.sample_id(index) in listed]
    others = {source.sample_id(index) for index in range(len(source))} - listed - {GRID}
    if not others or not kept:
        return _without(source, GRID)
    if unknown := others - exact:
        are = "is" if len(unknown) == 1 else "are"
        said = f"{counted(len(unknown), 'picture')} in {folder} {are} not in {SAMPLES} and {are} left out"
        print(f"warning: {said}", file=sys.stderr)
    return Part(source, kept, "drawn", f"listed in {SAMPLES}")
