"""Recipes for `fuzz.py`: YAML files, read by `load_recipe`."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

import yaml
from hypothesis import strategies as st
from pydantic import BaseModel

from fuzz_mutate import ODD, NonsenseError, mutated_bytes, mutated_tree
from open_ldm.core.config import parse_yaml, to_yaml
from open_ldm.core.plain_data import PlainDataError, parse_yaml_value
from open_ldm.runs.catalogue import packaged, recipe_text
from open_ldm.runs.recipe import load_recipe, recipe_from
from open_ldm.runs.recipe_files import recipe_content
from open_ldm.runs.stages import build_stages

SMALL: dict[str, Any] = {
    "name": "fuzzed",
    "data": {
        "source": {
            "kind": "folder",
            "path": "pictures",
            "columns": {"label": "stain"},
            "channels": 3,
            "channel_range": [[0, 9]],
        },
        "transform": {"size_px": [16, 32], "flip": 0.5, "crop": {"kind": "local", "scale_px": 40}},
        "views": 2,
        "workers": 1,
        "holdout": {"share": 0.1},
    },
    "cache": {"path": "cache"},
    "held_out": {"every_samples": 8, "pictures": 4},
    "init_from": {"source": "runs/base", "allow": ["head.*"]},
    "latent_stats": {"kind": "measured", "pictures": 16},
    "conditioning": {
        "semantic": {"kind": "text", "encoder": {"kind": "words", "length": 10, "width": 16}},
        "controls": [
            {"kind": "original_size", "gate": {"kind": "power_cosine", "alpha": 8.0}},
            {"kind": "flip"},
            {"kind": "metadata", "column": "magnification"},
        ],
    },
    "denoiser": {"kind": "mmdit", "size": "XS", "patch": 4, "depth": 2, "width": 32, "heads": 2},
    "training": {
        "samples": 96,
        "batch_size": 4,
        "optimizer": {"learning_rate": 0.001, "betas": [0.9, 0.99], "decay": "cosine"},
        "ema": {"decay": 0.99, "warmup": True},
        "checkpoint_every_samples": 16,
    },
    "parallel": {"kind": "fsdp", "replicate": 2},
    "stages": [{"name": "a"}, {"name": "b", "training": {"samples": 8}}],
    "sampling": {"solver": "euler", "steps": 3, "guidance": {"semantic_scale": 2.0}},
    "preview": {"count": 4, "prompts": ["a", "b"]},
}


class Recipes:
    """YAML files."""

    count = 2000

    def __init__(self, folder: Path) -> None:
        self._file = folder / "fuzzed.yaml"

    def begun(self) -> list[bytes]:
        """Return one recipe with most settings, and some of those that are packaged."""
        return [_written(SMALL), *(recipe_text(name).encode() for name in packaged()[::6])]

    def strategy(self) -> st.SearchStrategy[bytes]:
        """Return the small recipe with other values in a few places."""
        values = st.sampled_from(ODD) | st.integers() | st.floats() | st.text(max_size=8) | st.booleans()
        nested = st.recursive(values, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner))
        changes = st.lists(st.tuples(st.sampled_from(sorted(_paths(SMALL), key=repr)), nested), min_size=1, max_size=3)
        return changes.map(lambda each: _written(_changed(each)))

    def mutated(self, given: bytes, draw: random.Random) -> bytes:
        """Return a file whose settings, or whose letters, are others."""
        if draw.random() < 0.3:
            return mutated_bytes(given, draw)
        try:
            return _written(mutated_tree(parse_yaml_value(given.decode()), draw))
        except (yaml.YAMLError, PlainDataError, UnicodeError):
            return mutated_bytes(given, draw)

    def read(self, given: bytes) -> None:
        """Load it, and compare what was understood with what stands there."""
        self._file.write_bytes(given)
        recipe = load_recipe(str(self._file))
        build_stages(recipe, self._file.with_suffix(""))
        json.dumps(recipe.model_dump(mode="json"), allow_nan=False)
        if recipe_from(parse_yaml(to_yaml(recipe), "again"), [], source="again") != recipe:
            raise NonsenseError("it is another recipe when it is written and read again")
        lost = list(_lost(recipe_content(str(self._file)), recipe, "recipe"))
        if lost:
            raise NonsenseError(lost[0])


def _written(tree: Any) -> bytes:
    return yaml.safe_dump(tree, sort_keys=False).encode()


def _paths(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in pairs:
        yield (*path, key)
        yield from _paths(value, (*path, key))


def _changed(changes: list[tuple[tuple[Any, ...], Any]]) -> Any:
    tree: Any = yaml.safe_load(_written(SMALL))
    for path, value in changes:
        holder = tree
        try:
            for key in path[:-1]:
                holder = holder[key]
            holder[path[-1]] = value
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change removed it
    return tree


def _lost(given: Any, meant: Any, where: str) -> Iterator[str]:
    """What a file says and its recipe does not."""
    if isinstance(meant, BaseModel) and isinstance(given, Mapping):
        for key, value in given.items():
            if key not in type(meant).model_fields:
                yield f"{where}.{key} has no meaning"
            else:
                yield from _lost(value, getattr(meant, key), f"{where}.{key}")
    elif isinstance(meant, Mapping) and isinstance(given, Mapping):
        spelt = {str(key): value for key, value in meant.items()}
        for key, value in given.items():
            yield from _lost(value, spelt.get(str(key)), f"{where}.{key}")
    elif isinstance(meant, tuple | list) and isinstance(given, list | tuple) and len(meant) == len(given):
        for number, (one, other) in enumerate(zip(given, meant, strict=True)):
            yield from _lost(one, other, f"{where}.{number}")
    elif not _same(given, meant):
        yield f"{where}={given!r} is understood as {meant!r}"


def _same(given: Any, meant: Any) -> bool:
    """Whether a value is what was written, by type and by number."""
    if isinstance(given, bool) != isinstance(meant, bool):
        return isinstance(meant, bool) and str(given).lower() in (
            "0",
            "1",
            "0.0",
            "1.0",
            "true",
            "false",
            "yes",
            "no",
            "on",
            "off",
            *"tfyn",
        )
    if isinstance(meant, int | float) and not isinstance(meant, bool):
        return given == meant or (isinstance(given, str | int | float) and float(given) == meant)
    if isinstance(meant, str | PurePath):
        return str(given) == str(meant) or PurePath(str(given)) == meant
    return bool(given == meant)
