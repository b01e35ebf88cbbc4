"""Pictures that are there twice: copies byte for byte, and nearly, by what they look like."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from open_ldm.data.duplicates import NEAR_BITS, Pair, find_duplicates, near_pairs, perceptual_hash
from open_ldm.sources.folder import FolderConfig

Array = np.ndarray[Any, Any]


def scene(seed: int, side: int = 96) -> Array:
    """Boxes of colour one over another, as no two seeds give them."""
    draw = np.random.default_rng(seed)
    picture = np.full((side, side, 3), draw.integers(0, 256, 3), np.uint8)
    for _ in range(14):
        top, left = draw.integers(0, side - 8, 2)
        height, width = draw.integers(8, side // 2, 2)
        picture[top : top + height, left : left + width] = draw.integers(0, 240, 3)
    return picture


def changed(pixels: Array, how: str) -> Array:
    image = Image.fromarray(pixels)
    if how == "jpeg":
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=50)
        image = Image.open(stream)
    elif how == "smaller":
        image = image.resize((36, 36), Image.Resampling.BICUBIC)
    elif how == "brighter":
        image = image.point(lambda value: min(255, value + 12))
    elif how == "mirrored":
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(image)


def bits_between(one: Array, other: Array) -> int:
    hashes = perceptual_hash(one), perceptual_hash(other)
    assert None not in hashes
    return (hashes[0] ^ hashes[1]).bit_count()  # type: ignore[operator]


@pytest.mark.parametrize("how", ["jpeg", "smaller", "brighter"])
def test_what_looks_the_same_differs_in_few_bits(how: str) -> None:
    assert max(bits_between(scene(seed), changed(scene(seed), how)) for seed in range(8)) <= NEAR_BITS


def test_other_pictures_and_mirror_images_differ_in_many_bits() -> None:
    scenes = [scene(seed) for seed in range(16)]
    others = [bits_between(one, other) for row, one in enumerate(scenes) for other in scenes[:row]]
    assert min(others) > NEAR_BITS and 28 < np.mean(others) < 36
    assert min(bits_between(one, changed(one, "mirrored")) for one in scenes) > NEAR_BITS
    wide = scene(3).astype(np.uint16) * 257
    assert perceptual_hash(wide) == perceptual_hash(scene(3))
    assert perceptual_hash(np.full((20, 20, 3), 200, np.uint8)) is None


def test_pairs_are_those_of_a_comparison_of_all() -> None:
    draw = np.random.default_rng(1)
    base = draw.integers(0, 2**63, 40, dtype=np.uint64)
    flips = [np.uint64(sum(1 << int(bit) for bit in draw.choice(64, int(draw.integers(0, 9)), replace=False))) for _ in base]
    both = np.stack([base, base ^ np.array(flips, np.uint64)], axis=1).ravel()  # neighbours and far ones
    hashes = np.concatenate([both] * 8)  # more than one block of rows
    indices = [3 * index for index in range(len(hashes))]
    wanted = {
        (indices[i], indices[j], bits)
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if (bits := int(hashes[i] ^ hashes[j]).bit_count()) <= 4
    }
    assert {(pair.first, pair.second, pair.bits) for pair in near_pairs(hashes, indices, 4)} == wanted and len(wanted) > 100


def test_a_folder_is_searched(tmp_path: Path) -> None:
    for seed in range(4):
        Image.fromarray(scene(seed)).save(tmp_path / f"{seed}.png")
    (tmp_path / "copy.png").write_bytes((tmp_path / "2.png").read_bytes())
    (tmp_path / "copy again.png").write_bytes((tmp_path / "2.png").read_bytes())
    Image.fromarray(scene(1)).save(tmp_path / "near.jpg", quality=60)
    Image.new("RGB", (30, 30), "white").save(tmp_path / "white.png")
    Image.new("RGB", (40, 40), "white").save(tmp_path / "white2.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "3.png").read_bytes()[:100])
    (tmp_path / "empty.png").write_bytes(b"")
    source = FolderConfig(path=tmp_path).open()
    found = find_duplicates(source)
    names = {(source.sample_id(pair.first), source.sample_id(pair.second), pair.exact) for pair in found.pairs}
    assert names == {("2.png", "copy again.png", True), ("2.png", "copy.png", True), ("1.png", "near.jpg", False)}
    assert (found.pictures, found.exact, found.flat, found.bad, found.more) == (11, 2, 2, 2, False)
    assert found.pairs[0].exact and found.pairs[-1] == Pair(1, found.pairs[-1].second, found.pairs[-1].bits, exact=False)
