"""What one does with recipes and data: train, transfer, import weights, encode, survey."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from open_ldm.api.arguments import Place, several
from open_ldm.api.boundary import in_python
from open_ldm.api.recipes import Override, RecipeLike, as_overrides, at_edition, load_recipe
from open_ldm.api.run import Run
from open_ldm.commands import encode as encoding
from open_ldm.commands import import_export
from open_ldm.commands.survey import data_named, survey_data
from open_ldm.commands.train import default_folder, train_recipe
from open_ldm.commands.transfer import overrides_to_start_from
from open_ldm.data.survey import DataSurvey
from open_ldm.runs.editions import as_edition_begun
from open_ldm.runs.recipe import Recipe


@in_python
def train(recipe: RecipeLike, *overrides: Override, out: Place | None = None, progress: bool = True) -> Run:
    """Train a diffusion model, or go on with a run.

    The same call again goes on where the run stopped. An interrupt (the stop button of a notebook, Ctrl-C) or SIGTERM saves
    after the update at work, says so and returns; a second interrupt within ten seconds raises KeyboardInterrupt.

    Args:
        recipe: What to train: a packaged recipe's name, a YAML file, a run or its folder, a mapping, or a `Recipe`.
        *overrides: Changes to it: `"data.source.path=pictures"`, or a mapping such as `{"training": {"batch_size": 64}}`.
        out: The run folder; runs/NAME by default, and a run folder given as `recipe` is gone on with.
        progress: Show how far it is.

    Returns:
        The run. `run.state` tells whether it is finished.

    Raises:
        OpenLdmError: A setting, the data or the disk does not allow it, or the folder holds a run of other settings.
    """
    changes = as_overrides(overrides)
    given = os.fspath(recipe) if isinstance(recipe, str | os.PathLike) else ""
    resolved = load_recipe(recipe, *changes)
    folder = Path(out) if out is not None else default_folder(given, resolved.name)
    resolved, notes = as_edition_begun(resolved, folder, partial(at_edition, recipe, changes))
    # What was given as a mapping is in the run folder once it has begun.
    command = [*(["ldm", "train", given, *changes, "--out"] if given else ["ldm", "train"]), str(folder)]
    result = train_recipe(resolved, folder, silent=not progress, command=command, notes=notes)
    run = Run(folder)
    if result.code:
        print(f"{run.state} at {result.samples_seen:,} samples; the same call goes on from there", file=sys.stderr, flush=True)
    return run


@in_python
def transfer(
    source: Run | Place,
    recipe: RecipeLike,
    *overrides: Override,
    out: Place | None = None,
    allow: str | Sequence[str] = (),
    raw: bool = False,
    progress: bool = True,
) -> Run:
    """Train a model that starts from another one: other sizes, data, classes, captions, controls or latents.

    What became of every tensor is shown and kept in transfer.json in the run folder.

    Args:
        source: The run to start from, trained or imported, or one checkpoint inside it.
        recipe: What to train, as for `train`.
        *overrides: Changes to it, such as `"init_from.positions=bicubic"`.
        out: The run folder; runs/NAME by default.
        allow: Tensors that may be new or dropped though the recipes give no reason; `*` fits any part of a name.
        raw: Start from the raw weights and not from the averaged ones.
        progress: Show how far it is.

    Returns:
        The run, as `train` does.

    Raises:
        OpenLdmError: As `train`, and when the source does not fit.
    """
    changes = overrides_to_start_from(Path(source), as_overrides(overrides), allow=several(allow), raw=raw)
    return train(recipe, *changes, out=out, progress=progress)


@in_python
def import_weights(name: str, source: Place, *overrides: Override, out: Place | None = None) -> Run:
    """Make a run of published weights, ready to sample from, to evaluate or to transfer.

    Pickles are read as tensors only, in a process of their own.

    Args:
        name: Which published model, such as `"dit-xl-2"`; the error for a wrong name lists them.
        source: Its file (.safetensors, .pt, ...) or a folder in diffusers' format.
        *overrides: Changes to its recipe.
        out: The run folder to make; runs/NAME by default.

    Returns:
        The run, of 0 samples seen.

    Raises:
        OpenLdmError: The name is unknown, the folder holds a run, or the file does not fit the architecture.
    """
    folder = Path("runs") / name if out is None else Path(out)
    return Run(import_export.import_weights(name, Path(source), folder, as_overrides(overrides)).run)


@in_python
def encode(
    recipe: RecipeLike,
    *overrides: Override,
    out: Place | None = None,
    verify: bool = False,
    entries: int | None = None,
    progress: bool = True,
) -> encoding.EncodingResult:
    """Encode pictures and captions once, for many trainings. The same call again goes on where it stopped.

    Args:
        recipe: As for `train`; it needs `data.views`, the number of fixed views of each picture.
        *overrides: Changes to it, such as `"data.views=4"`.
        out: The cache folder; where the recipe says, or caches/NAME. Train from it with `cache.path`.
        verify: Read all of the cache, make damaged files again, and compare entries with new ones.
        entries: How many entries of each section `verify` compares: 16 by default, 0 for all.
        progress: Show how far it is.

    Returns:
        What was written, and where the time went.

    Raises:
        OpenLdmError: The recipe allows no cache, or stored entries do not belong to the pictures. StoppedError when it was
            interrupted, with what is encoded kept.
    """
    changes = as_overrides(overrides)
    load = partial(_load, recipe)
    resolved = encoding.with_cache(load, changes, None if out is None else Path(out))
    return encoding.encode(resolved, verify=verify, entries=entries, silent=not progress)


@in_python
def survey(data: Run | RecipeLike, *overrides: Override, decode: bool = False) -> DataSurvey:
    """Look at a data set: layout, sizes, classes, captions, and pictures that cannot be used.

    Args:
        data: A folder of pictures, shards, a table or an .npz array; or a recipe, given as for `train`, or a run, whose data
            are looked at.
        *overrides: Changes to the recipe; for pictures without one to a guess, which is printed.
        decode: Decode every picture, which finds damage behind the header.

    Returns:
        What was found: it prints as a table and has a field for each part of it.

    Raises:
        OpenLdmError: There are no such data, or none of the pictures can be read.
    """
    changes = as_overrides(overrides)
    if isinstance(data, Run):
        return survey_data(load_recipe(data.recipe, *changes), decode=decode)
    if isinstance(data, str | os.PathLike):
        return survey_data(data_named(os.fspath(data), changes), decode=decode)
    return survey_data(load_recipe(data, *changes), decode=decode)


def _load(recipe: RecipeLike, overrides: Sequence[str]) -> Recipe:
    return load_recipe(recipe, *overrides)
