from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont

from open_ldm.core.errors import NonFiniteError
from open_ldm.core.pictures import grid, png_bytes, save_png, to_images, to_picture, to_pixels, wrapped


def colours(count: int, side: int) -> torch.Tensor:
    """`count` plain pictures of distinct colours, uint8 [count, 3, side, side]."""
    plain = torch.tensor([[40 + 20 * index, 200 - 20 * index, 90] for index in range(count)], dtype=torch.uint8)
    return plain[:, :, None, None].expand(-1, -1, side, side).contiguous()


def test_every_pixel_value_survives_the_round_trip() -> None:
    pixels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_pixels(to_images(pixels)), pixels)
    assert to_images(pixels)[[0, 255]].tolist() == [-1.0, 1.0]


def test_images_are_rounded_and_clamped() -> None:
    images = torch.tensor([-1.0, 1.0, -7.0, 7.0, 1e38, 0.004, 1 - 0.9 / 127.5])
    assert to_pixels(images).tolist() == [0, 255, 0, 255, 255, 128, 254]
    assert to_pixels(torch.ones(2, 3, 4, 4, dtype=torch.bfloat16, requires_grad=True)).unique().tolist() == [255]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_no_pixel_can_show_is_never_clipped(bad: float) -> None:
    with pytest.raises(NonFiniteError, match="NaN or infinity"):
        to_pixels(torch.tensor([0.0, bad]))


def test_a_picture_has_the_tensors_pixels() -> None:
    pixels = torch.randint(0, 256, (3, 5, 7), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    assert np.array_equal(np.asarray(to_picture(pixels)), pixels.permute(1, 2, 0).numpy())
    grey = to_picture(pixels[:1])
    assert (grey.mode, grey.size) == ("RGB", (7, 5))
    assert np.array_equal(np.asarray(grey)[..., 2], pixels[0].numpy())


@pytest.mark.parametrize("wrong", [torch.zeros(3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.uint8)])
def test_wrong_pixels_are_refused(wrong: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="needed: uint8"):
        to_picture(wrong)


def test_a_grid_places_row_by_row_and_enlarges_by_whole_pixels() -> None:
    picture = grid(colours(5, 32), 3, gap=6)
    assert picture.size == (3 * 134 + 6, 2 * 134 + 6), "32 px grow to 128 px"
    seen = np.asarray(picture)
    for index, colour in enumerate(colours(5, 32)[:, :, 0, 0].numpy()):
        row, column = divmod(index, 3)
        tile = seen[6 + 134 * row : 134 + 134 * row, 6 + 134 * column : 134 + 134 * column]
        assert (tile == colour).all()
    assert (seen[140:, 274:] == 255).all(), "the sixth place stays paper"


def test_enlarging_keeps_pixels_square_and_sharp() -> None:
    board = torch.tensor([[0, 255], [255, 0]], dtype=torch.uint8).expand(1, 3, 2, 2)
    seen = np.asarray(grid(board, 1, scale=10, gap=0).convert("L"))
    assert np.array_equal(seen, np.kron([[0, 255], [255, 0]], np.ones((10, 10))))


def test_large_pictures_keep_their_size_and_sizes_may_differ() -> None:
    tiles = [colours(1, 200)[0], colours(1, 100)[0]]
    picture = grid(tiles, 2, gap=4)
    assert picture.size == (2 * 204 + 4, 208)
    assert picture.getpixel((208 + 100, 104)) == (40, 200, 90), "the smaller one is centred"
    assert picture.getpixel((208 + 10, 14)) == (255, 255, 255)


def test_captions_stand_below_and_headers_outside() -> None:
    plain = grid(colours(4, 32), 2)
    with_captions = grid(colours(4, 32), 2, captions=["one", "two", "three", "a much longer caption that is wrapped"])
    headed = grid(colours(4, 32), 2, row_headers=["flip=0", "flip=1"], column_headers=["64 px", "128 px"])
    assert with_captions.width == plain.width
    assert with_captions.height > plain.height
    assert headed.width > plain.width
    assert headed.height > plain.height
    ink = np.asarray(headed.convert("L"))
    assert (ink[:, : headed.width - plain.width].min(), ink[: headed.height - plain.height].min()) < (128, 128)


def test_texts_must_match_the_pictures() -> None:
    with pytest.raises(ValueError, match="given 1 captions; needed: 4"):
        grid(colours(4, 8), 2, captions=["one"])
    with pytest.raises(ValueError, match="given 3 row_headers; needed: 2"):
        grid(colours(4, 8), 2, row_headers=["1", "2", "3"])
    with pytest.raises(ValueError, match="at least one"):
        grid([], 2)


@pytest.mark.parametrize(
    "text",
    ["", "   ", "a cat", "a large purple square to the left of a small orange circle " * 40, "x" * 100_000, "é🐻 漢字"],
)
def test_captions_fit_their_width(text: str) -> None:
    font = ImageFont.load_default(12)
    lines = wrapped(text, font, 128)
    assert len(lines) <= 3
    assert all(font.getlength(line) <= 128 for line in lines)
    if text == "a cat":
        assert lines == ["a cat"]
    if len(text) > 100:
        assert lines[-1].endswith("…")


def test_a_png_holds_the_picture(tmp_path: Path) -> None:
    picture = grid(colours(2, 16), 2)
    save_png(tmp_path / "new/picture.png", picture)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "new/picture.png")), np.asarray(picture))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png_bytes(picture)))), np.asarray(picture))
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["picture.png"]
