"""Whether samples show what their captions say: which captions are asked for, and what the independent reader finds."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from open_ldm.commands.demo import caption_groups
from open_ldm.core.hashes import hash_content
from open_ldm.data.shape_wordings import captions_of_length, told_by
from open_ldm.data.shape_words import PLACES, ShapeWords, shapes_in
from open_ldm.evaluation.bootstrap import BootstrapConfig, estimate_share
from open_ldm.evaluation.shape_attributes import agreement
from open_ldm.runs.preview import evenly
from open_ldm.sources.loader import DataConfig
from open_ldm.sources.shapes import ShapesConfig
from open_ldm.sources.shrunk import ShrunkConfig
from open_ldm.studies.results import Value, at

_READ = ("colour", "kind", "place")


def captions_to_check(data: DataConfig, count: int) -> list[str]:
    """Captions of one shape, evenly from all that such drawings have and then again; any where the data are no drawings."""
    captions = evenly(caption_groups(_drawings(data))["one shape"], count)
    return [captions[i % len(captions)] for i in range(count)]


def captions_of_lengths(data: DataConfig, lengths: Sequence[int], count: int) -> list[str]:
    """Captions of one shape in the given numbers of words, equally many of each.

    Args:
        data: Its drawings say which shapes occur; their own captions may have other lengths.
        lengths: Numbers of words, 1 to 20, in turn.
        count: How many captions; where it asks for more than there are of a length, they repeat.
    """
    drawings = _drawings(data)
    shapes = [ShapeWords(*pair, size, place) for pair in drawings.pairs for size in drawings.sizes for place in PLACES]
    # In their own order every second caption would say left.
    every = [sorted({text for one in shapes for text in captions_of_length(one, words)}, key=hash_content) for words in lengths]
    chosen = []
    for i in range(count):
        captions = every[i % len(every)]
        chosen.append(captions[i // len(every) % len(captions)])
    return chosen


def agreement_with(captions: Sequence[str], pixels: Tensor, group: str = "") -> dict[str, Value]:
    """Read pictures back and compare them with their captions.

    Args:
        captions: One for each picture: the usual sentence, or with a `group` of any length.
        pixels: Pictures uint8 [N, 3, H, W].
        group: Name of a group of captions by length; of these only what each one tells is compared.

    Returns:
        Shares of pictures by name, each at the group if there is one: 'agreement' (all that is told, and no shape too many),
        and 'agreement_colour', 'agreement_kind' and 'agreement_place' over the captions that tell these.
    """
    told = [(told_by(caption),) if group else shapes_in(caption) for caption in captions]
    seen = [agreement(one, shapes) for one, shapes in zip(pixels, told, strict=True)]
    hits: dict[str, list[bool]] = {"agreement": [], **{f"agreement_{name}": [] for name in _READ}}
    for shapes, found in zip(told, seen, strict=True):
        right = {name: getattr(found, name) for name in _READ if not group or getattr(shapes[0], name)}
        hits["agreement"].append(all(right.values()) and found.count)
        for name, one in right.items():
            hits[f"agreement_{name}"].append(one)
    values: dict[str, Value] = {}
    for name, each in hits.items():
        if each:
            share = estimate_share(name, torch.tensor(each, dtype=torch.float64), BootstrapConfig())
            values[at(name, group)] = Value(share.value, share.low, share.high, f"{len(each)} captions")
    return values


def _drawings(data: DataConfig) -> ShapesConfig:
    inner = data.source.of if isinstance(data.source, ShrunkConfig) else data.source
    return inner if isinstance(inner, ShapesConfig) else ShapesConfig()
