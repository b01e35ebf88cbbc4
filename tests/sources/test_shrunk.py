"""Pictures made small."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from open_ldm.core.config import validate
from open_ldm.core.errors import ConfigError, OpenLdmError
from open_ldm.data.holdout import HoldoutConfig, select_part
from open_ldm.data.sample import IndexHashes
from open_ldm.data.survey import survey
from open_ldm.encoded.cache.reader import CacheReader
from open_ldm.sources.loader import read_batches
from open_ldm.sources.shrunk import ShrunkConfig, ShrunkSource
from tests.encoded.cache.small_data import CONTROLS, Setting, ranges

SHAPES = {"kind": "shapes", "length": 40}


def config(**changes: object) -> ShrunkConfig:
    return validate(ShrunkConfig, {"of": SHAPES, "short_side_px": [8, 64], **changes}, source="test")


def test_pictures_are_shrunk_never_enlarged_and_say_so() -> None:
    source = config().open()
    sides = []
    for index in range(len(source)):
        sample, whole = source[index], source.inner[index]
        assert sample.pixels.shape[:2] == (sample.original_height_px, sample.original_width_px) == source.size_of(index)
        assert sample.pixels.shape[0] <= whole.pixels.shape[0] and sample.pixels.shape[1] <= whole.pixels.shape[1]
        assert (sample.captions, sample.label) == (whole.captions, whole.label)
        sides.append(min(sample.pixels.shape[:2]))
    assert min(sides) >= 8 and max(sides) <= 64 and len(set(sides)) > 10


def test_the_seed_decides_the_sizes_and_the_hashes() -> None:
    one, same, other = config().open(), config().open(), config(seed=1).open()
    sizes = [[source.size_of(index) for index in range(len(source))] for source in (one, same, other)]
    assert sizes[0] == sizes[1] != sizes[2]
    assert one.hashes == same.hashes and one.hashes.pictures != other.hashes.pictures
    assert one.hashes.captions == one.inner.hashes.captions and one.fingerprint != one.inner.fingerprint


def test_a_range_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="short_side_px"):
        config(short_side_px=[9, 8])


COLOURED = {"kind": "shapes", "length": 800, "colours": ["red", "purple"], "two_shapes": 0, "short_side_px": [64, 64]}
TOLD = {"round": ["purple circle", "red circle"], "edged": ["red square", "red cross", "purple square"]}
"""Two and three of the classes, in another order than theirs; triangles and purple crosses are left out."""


def sides(source: ShrunkSource) -> dict[str, list[int]]:
    """Short sides by the class of the inner source."""
    found: dict[str, list[int]] = {}
    for index in range(len(source)):
        name = source.inner.class_names[source.inner.label_of(index) or 0]
        found.setdefault(name, []).append(min(source.size_of(index)))
    return found


@pytest.mark.parametrize("strength", [0.0, 0.9, 1.0])
def test_the_class_decides_the_size_as_often_as_the_strength_says(strength: float) -> None:
    """The classes of each super-class divide the range in the order of `told`: of n parts, its own has s + (1 - s) / n."""
    source = config(of=COLOURED, short_side_px=[8, 64], entangle={"by": "class", "strength": strength}, told=TOLD).open()
    by_class = sides(source)
    assert by_class.keys() == {name for names in TOLD.values() for name in names}
    for names in TOLD.values():
        for part, name in enumerate(names):
            low, high = (8 * 8 ** ((part + more) / len(names)) for more in (0, 1))
            share = np.mean([low - 0.5 <= side <= high + 0.5 for side in by_class[name]])
            expected = strength + (1 - strength) / len(names)
            # Sizes are rounded, so a part of small ones has up to half a pixel more at each end.
            assert (
                abs(share - expected)
                < 4 * (expected * (1 - expected) / len(by_class[name])) ** 0.5 + 0.07 * (1 - strength) + 1e-9
            )


def test_strength_0_is_the_data_of_today() -> None:
    plain, none = config().open(), config(entangle={"strength": 0}).open()
    assert plain.fingerprint == none.fingerprint and plain.hashes == none.hashes
    for index in range(len(plain)):
        one, other = plain[index], none[index]
        np.testing.assert_array_equal(one.pixels, other.pixels)
        assert (one.captions, one.label, one.attributes) == (other.captions, other.label, other.attributes)
    assert "entangle" not in config().model_dump() and "told" not in config().model_dump_json()


def test_hashes_of_before_there_was_anything_to_entangle() -> None:
    source = config(of={"kind": "shapes", "length": 60}).open()
    assert source.fingerprint == source.hashes.pictures == "c3f2a1f990749a4b459ce83a27c141ac"
    assert source.hashes.captions == "68c876f4242b47b2ccc2e74a440b3f26"


def test_only_the_super_class_is_told_and_the_class_stays_readable() -> None:
    source = config(of=COLOURED, told=TOLD).open()
    assert source.class_names == ("round", "edged") and source.summary.classes == 2
    assert 0 < len(source) < 800 and "told part of 800" in source.summary.sentence()
    assert set(source.captions()) == {"round", "edged"}
    for index in range(0, len(source), 7):
        sample = source[index]
        (shape,) = sample.attributes["shapes"]
        assert sample.attributes["class"] == f"{shape.colour} {shape.kind}"
        assert sample.attributes["class"] in TOLD[source.class_names[sample.label or 0]]
        assert sample.label == source.label_of(index)
        assert sample.captions == source.captions_of(index) == (source.class_names[sample.label or 0],)
    assert sum(survey(source).class_counts.values()) == len(source)
    part = select_part(source, HoldoutConfig(share=0.3), "held_out")
    assert part.class_names == source.class_names and part[0].attributes["class"] in source.inner.class_names


def test_what_is_told_and_entangled_is_in_the_hashes() -> None:
    def hashes(**changes: object) -> IndexHashes:
        return config(of=COLOURED, **changes).open().hashes

    swapped = {**TOLD, "round": TOLD["round"][::-1]}
    full, told, reordered = hashes(), hashes(told=TOLD), hashes(told=swapped)
    entangled = hashes(told=TOLD, entangle={"strength": 0.5})
    other = hashes(told=swapped, entangle={"strength": 0.5})
    stronger = hashes(told=TOLD, entangle={"strength": 0.6})
    assert len({each.pictures for each in (full, told, entangled, other, stronger)}) == 5
    assert full.labels != told.labels and full.captions != told.captions and told.labels != told.captions
    assert told.labels == entangled.labels and told.pictures == reordered.pictures


def write_folder(folder: Path, texts: Sequence[str]) -> None:
    rows = [{"file_name": f"{number:03}.png", "text": text} for number, text in enumerate(texts)]
    for number, row in enumerate(rows):
        Image.fromarray(np.full((40, 48, 3), number % 200, np.uint8)).save(folder / str(row["file_name"]))
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))


WORDS = {"animal": ["cat", "polar bear"], "food": ["cake", "dog food"], "dogs": ["dog"]}


def test_categories_by_words_of_the_captions(tmp_path: Path) -> None:
    texts = ["a Cat!", "polar-bear", "a bear", "category", "dog food", "my dog", "cake for a cat", "nothing"]
    write_folder(tmp_path, texts)
    folder = {"kind": "folder", "path": str(tmp_path)}
    everything = config(of=folder, short_side_px=[4, 32], entangle={"by": {"words": WORDS}, "strength": 1}).open()
    found = [everything[index].attributes.get("class") for index in range(len(texts))]
    assert found == ["animal", "animal", None, None, "food", "dogs", "animal", None]
    assert [everything.captions_of(index) for index in range(len(texts))] == [(text,) for text in texts]
    parts = {"animal": (4, 8), "food": (8, 16), "dogs": (16, 32)}
    for index, name in enumerate(found):
        low, high = parts.get(name or "", (4, 32))
        assert low <= everything.size_of(index)[0] <= high
    told = {"kept": ["animal", "dogs"]}
    hidden = config(of=folder, entangle={"by": {"words": WORDS}, "strength": 0.5}, told=told).open()
    assert [hidden[index].attributes["class"] for index in range(len(hidden))] == ["animal", "animal", "dogs", "animal"]
    assert hidden.captions() == ["kept"] * 4 and {hidden.label_of(index) for index in range(4)} == {0}


def test_a_cache_holds_the_views_of_live_training(tmp_path: Path) -> None:
    source = config(of={**COLOURED, "length": 60}, short_side_px=[10, 30], entangle={"strength": 0.9}, told=TOLD).open()
    setting = Setting(source=source, encoder=None)
    reader = CacheReader(setting.filled(tmp_path).open(), 3, CONTROLS)
    for batch in reader.batches(ranges(0, 8, 9), 0):
        (live,) = read_batches(source, setting.transform, seed=3, position_ranges=[batch.positions], workers=0, views=2)
        assert torch.equal(batch.posterior.mean, live.pixels.float() / 127.5 - 1)
        assert batch.labels is not None and live.labels is not None and torch.equal(batch.labels, live.labels)
        for control in CONTROLS:
            assert torch.equal(batch.controls[control.kind], control.numbers_of(live.records))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"entangle": {}}, "entangle.strength"),
        ({"entangle": {"strength": 2}}, "entangle.strength"),
        ({"entangle": {"by": "kind", "strength": 1}}, "entangle.by"),
        ({"entangle": {"by": {"words": {"a": ["cat"]}}, "strength": 1}}, "at least two categories"),
        ({"entangle": {"by": {"words": {"a": ["cat"], "b": ["!"]}}, "strength": 1}}, "category 'b' has no words"),
        ({"told": {}}, "no super-class"),
        ({"told": {"round": []}}, "super-class 'round' has no classes"),
        ({"told": {"round": ["red circle"], "edged": ["red circle"]}}, "red circle twice"),
        ({"told": {"round": ["red circel"]}}, "did you mean 'red circle'"),
        ({"told": {"x": ["cat"]}, "entangle": {"by": {"words": {"cat": ["miaow"], "dog": ["bark"]}}, "strength": 1}}, "leaves"),
    ],
)
def test_mistakes_are_answered_in_one_line(changes: dict[str, object], said: str) -> None:
    with pytest.raises(OpenLdmError) as caught:
        config(of=COLOURED, **changes).open()
    assert said in caught.value.one_line() and "\n" not in caught.value.one_line() and len(caught.value.one_line()) <= 300


def test_pictures_without_classes_or_captions_have_nothing_to_go_by(tmp_path: Path) -> None:
    for number in range(3):
        Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / f"{number}.png")
    folder = {"kind": "folder", "path": str(tmp_path)}
    with pytest.raises(ConfigError, match="have no classes"):
        config(of=folder, entangle={"strength": 0.5}).open()
    with pytest.raises(ConfigError, match="have no captions"):
        config(of=folder, entangle={"by": {"words": WORDS}, "strength": 0.5}).open()
