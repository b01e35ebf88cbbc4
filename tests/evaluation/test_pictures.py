from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from open_ldm.core.distributed import World
from open_ldm.core.errors import DataError
from open_ldm.core.pictures import to_pixels
from open_ldm.evaluation.pictures import Pictures, PictureSet, content_of, numbered, pictures_of
from open_ldm.sources.folder import FolderConfig
from open_ldm.sources.shapes import ShapesConfig
from tests.evaluation.sets import images


def set_of(*parts: torch.Tensor) -> PictureSet:
    found = PictureSet()
    for part in parts:
        found.add(part)
    return found


def test_a_sets_hash_names_its_pictures_in_any_order() -> None:
    pixels = to_pixels(images(12))
    one = set_of(pixels)
    shuffled = pixels[torch.randperm(12, generator=torch.Generator().manual_seed(0))]
    assert set_of(*shuffled.split(5)).hash == one.hash
    both = set_of(pixels[:7])
    both.merge(set_of(pixels[7:]))
    both.merge(PictureSet())
    assert (both.hash, both.count, both.size_px) == (one.hash, 12, (16, 16))
    changed = pixels.clone()
    changed[3, 0, 5, 5] ^= 1
    assert set_of(changed).hash != one.hash
    assert set_of(pixels[:11]).hash != one.hash
    assert set_of(pixels, pixels[:1]).hash != one.hash
    assert set_of(pixels.view(12, 3, 8, 32)).hash != one.hash


def test_mixed_sizes_are_refused() -> None:
    with pytest.raises(DataError, match=r"16x16 and 8x8 px.*fix: .*one size_px"):
        set_of(to_pixels(images(2)), to_pixels(images(2, 8)))
    one = set_of(to_pixels(images(2)))
    with pytest.raises(DataError, match="16x16 and 8x8 px"):
        one.merge(set_of(to_pixels(images(2, 8))))


def test_numbers_and_pictures_must_agree() -> None:
    with pytest.raises(ValueError, match="3 images, 2 numbers"):
        Pictures(images(3), (0, 1))
    assert [batch.numbers for batch in numbered(images(5).split(2))] == [(0, 1), (2, 3), (4,)]


def test_a_source_is_read_once_and_shared_by_processes() -> None:
    source = ShapesConfig(length=23).open()
    whole = list(pictures_of(source, 16, batch_size=5))
    assert sorted(number for batch in whole for number in batch.numbers) == list(range(23))
    assert all(batch.captions is not None and len(batch.captions) == len(batch.numbers) for batch in whole)
    shares = [pictures_of(source, 16, batch_size=5, world=World(rank, 3)) for rank in range(3)]
    together = sorted(number for share in shares for batch in share for number in batch.numbers)
    assert together == list(range(23))
    few = [number for batch in pictures_of(source, 16, count=7, batch_size=3) for number in batch.numbers]
    assert few == [number for batch in whole for number in batch.numbers][:7]


def test_pictures_of_all_sizes_come_at_one_size_and_bad_ones_are_left_out(tmp_path: Path) -> None:
    for index, size in enumerate([(20, 30), (40, 20), (16, 16), (33, 50)]):
        Image.new("RGB", size, (index * 50, 0, 0)).save(tmp_path / f"{index}.png")
    (tmp_path / "4.png").write_bytes(b"no picture")
    source = FolderConfig(path=tmp_path).open()
    found = list(pictures_of(source, 16, batch_size=2))
    assert {batch.images.shape[1:] for batch in found} == {(3, 16, 16)}
    assert sorted(number for batch in found for number in batch.numbers) == [0, 1, 2, 3]


def test_the_name_of_a_set_follows_just_the_pictures_that_are_read(tmp_path: Path) -> None:
    for number, pixels in enumerate(to_pixels(images(9))):
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(tmp_path / f"{number}.png")
    source = FolderConfig(path=tmp_path).open()
    read = [number for batch in pictures_of(source, 16, count=4) for number in batch.numbers]
    before = content_of(source, 4)
    for number in range(9):
        kept = (tmp_path / f"{number}.png").read_bytes()
        Image.new("RGB", (16, 16), (number, 0, 0)).save(tmp_path / f"{number}.png")
        assert (content_of(source, 4) != before) == (number in read)
        (tmp_path / f"{number}.png").write_bytes(kept)
    assert content_of(source, 4) == before
