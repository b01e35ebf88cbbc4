"""Conversions between images as tensors and pictures for people: uint8 pixels, captioned grids, PNG and .npy files."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from open_ldm.core.errors import NonFiniteError
from open_ldm.core.files import write_bytes

_TEXT_PX = 12
_LINE_PX = 15
_CAPTION_LINES = 3
_CAPTION_LETTERS = 400  # more never fits, and measuring it letter by letter would take seconds
_VISIBLE_PX = 128
_PAPER = (255, 255, 255)
_INK = (55, 60, 68)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def to_pixels(images: Tensor, bits: int = 8) -> Tensor:
    """Convert float images in [-1, 1], of any shape, to pixels: round(top (x + 1) / 2), clamped.

    Args:
        images: The images.
        bits: 8 for uint8 (top 255), 16 for uint16 (top 65535).

    Raises:
        NonFiniteError: An image holds NaN or infinity, which no pixel can show.
    """
    if not torch.isfinite(images).all():
        raise NonFiniteError("a picture holds NaN or infinity", needed="finite numbers")
    top = 2**bits - 1
    scaled = (images.detach().float() + 1).mul_(top / 2)  # one copy, then in place: fresh memory costs more than the arithmetic
    rounded = scaled.clamp_(0, top).round_()
    return rounded.to(torch.uint8 if bits == 8 else torch.uint16)


def to_images(pixels: Tensor) -> Tensor:
    """Convert uint8 or uint16 pixels p, of any shape, to float32 images 2 p / top - 1, which `to_pixels` inverts exactly."""
    return pixels.float() / (127.5 if pixels.dtype == torch.uint8 else 32767.5) - 1


def to_picture(pixels: Tensor) -> Image.Image:
    """Convert uint8 [C, H, W] with 1 (grey) or 3 (RGB) channels to a PIL picture in RGB.

    Raises:
        ValueError: The tensor has another dtype or shape.
    """
    if pixels.dtype != torch.uint8 or pixels.ndim != 3 or pixels.shape[0] not in (1, 3):
        raise ValueError(f"given {pixels.dtype} {list(pixels.shape)}; needed: uint8 [1 or 3, H, W]; fix: to_pixels")
    return Image.fromarray(pixels.cpu().expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy())


def png_bytes(picture: Image.Image) -> bytes:
    """Encode the picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def npy_bytes(pixels: Tensor) -> bytes:
    """Encode pixels [C, H, W] as the bytes of a .npy file of [H, W, C], which data/channels.py reads."""
    buffer = io.BytesIO()
    np.save(buffer, pixels.cpu().permute(1, 2, 0).contiguous().numpy(), allow_pickle=False)
    return buffer.getvalue()


def save_png(path: Path, picture: Image.Image) -> None:
    """Write a PNG file, whole or not at all. Raises DiskError."""
    write_bytes(path, png_bytes(picture))


@dataclass(frozen=True)
class _Layout:
    """Positions and sizes of everything in the grid, in pixels of the finished picture."""

    columns: int
    rows: int
    cell_width: int
    cell_height: int
    caption_height: int
    left: int
    top: int
    gap: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the whole sheet in pixels."""
        width = self.left + self.columns * (self.cell_width + self.gap) + self.gap
        return width, self.top + self.rows * (self.cell_height + self.caption_height + self.gap) + self.gap

    def corner(self, index: int) -> tuple[int, int]:
        """Return the left and the upper edge of a cell in pixels, by its index."""
        row, column = divmod(index, self.columns)
        x = self.left + self.gap + column * (self.cell_width + self.gap)
        return x, self.top + self.gap + row * (self.cell_height + self.caption_height + self.gap)


def grid(
    pixels: Tensor | Sequence[Tensor],
    columns: int,
    *,
    captions: Sequence[str] | None = None,
    row_headers: Sequence[str] | None = None,
    column_headers: Sequence[str] | None = None,
    scale: int | None = None,
    gap: int = 6,
) -> Image.Image:
    """Arrange pictures in a grid on a white background, row by row.

    Args:
        pixels: uint8 [B, C, H, W], or a list of [C, H, W] of any sizes (each centred in its cell); C is 1 or 3.
        columns: Pictures per row.
        captions: One per picture, below it, wrapped to at most three lines and then cut with an ellipsis.
        row_headers: One per row, on its left, such as the values of a sweep.
        column_headers: One per column, above it.
        scale: Integer enlargement by nearest neighbour; by default small pictures grow to about 128 px.
        gap: Space between pictures, in px.

    Raises:
        ValueError: There are no pictures or columns, or another number of captions or headers.
    """
    if len(pixels) == 0 or columns < 1:
        raise ValueError(f"given {len(pixels)} pictures in {columns} columns; needed: at least one of each")
    factor = scale or max(1, _VISIBLE_PX // max(max(tile.shape[-2:]) for tile in pixels))
    tiles = [_enlarged(to_picture(tile), factor) for tile in pixels]
    columns = min(columns, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    _check_count("captions", captions, len(tiles))
    _check_count("row_headers", row_headers, rows)
    _check_count("column_headers", column_headers, columns)

    font = ImageFont.load_default(_TEXT_PX)
    cell_width = max(tile.width for tile in tiles)
    below = [wrapped(text, font, cell_width) for text in captions or ()]
    above = [wrapped(text, font, cell_width) for text in column_headers or ()]
    beside = [wrapped(text, font, _VISIBLE_PX) for text in row_headers or ()]
    layout = _Layout(
        columns=columns,
        rows=rows,
        cell_width=cell_width,
        cell_height=max(tile.height for tile in tiles),
        caption_height=_text_height(below),
        left=max((math.ceil(font.getlength(line)) + gap for lines in beside for line in lines), default=0),
        top=_text_height(above),
        gap=gap,
    )
    return _paint(layout, tiles, font, below, above, beside)


def _paint(
    layout: _Layout,
    tiles: Sequence[Image.Image],
    font: Font,
    below: Sequence[Sequence[str]],
    above: Sequence[Sequence[str]],
    beside: Sequence[Sequence[str]],
) -> Image.Image:
    paper = Image.new("RGB", layout.size, _PAPER)
    draw = ImageDraw.Draw(paper)
    for index, tile in enumerate(tiles):
        x, y = layout.corner(index)
        paper.paste(tile, (x + (layout.cell_width - tile.width) // 2, y + (layout.cell_height - tile.height) // 2))
        if below:
            _write(draw, below[index], font, x + layout.cell_width / 2, y + layout.cell_height + 3)
    for column, lines in enumerate(above):
        _write(draw, lines, font, layout.corner(column)[0] + layout.cell_width / 2, layout.gap)
    for row, lines in enumerate(beside):
        middle = layout.corner(row * layout.columns)[1] + (layout.cell_height - len(lines) * _LINE_PX) / 2
        _write(draw, lines, font, layout.left, middle, anchor="ra")
    return paper


def _write(draw: ImageDraw.ImageDraw, lines: Sequence[str], font: Font, x: float, y: float, anchor: str = "ma") -> None:
    for number, line in enumerate(lines):
        draw.text((x, y + number * _LINE_PX), line, font=font, fill=_INK, anchor=anchor)


def _text_height(texts: Sequence[Sequence[str]]) -> int:
    most = max((len(lines) for lines in texts), default=0)
    return most * _LINE_PX + 6 if most else 0


def _enlarged(picture: Image.Image, factor: int) -> Image.Image:
    return (
        picture if factor == 1 else picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    )


def _check_count(what: str, texts: Sequence[str] | None, needed: int) -> None:
    if texts is not None and len(texts) != needed:
        raise ValueError(f"given {len(texts)} {what}; needed: {needed}")


def wrapped(text: str, font: Font, width_px: float, lines: int = _CAPTION_LINES) -> list[str]:
    """Break `text` at spaces into at most `lines` lines that fit `width_px`; text that does not fit ends in an ellipsis."""
    words = text[:_CAPTION_LETTERS].split()
    result: list[str] = []
    while words and len(result) < lines:
        line = words.pop(0)
        while words and font.getlength(f"{line} {words[0]}") <= width_px:
            line = f"{line} {words.pop(0)}"
        result.append(_cut(line, font, width_px))
    if words and result:
        result[-1] = _cut(f"{result[-1]} {words[0]}", font, width_px, always=True)
    return result


def _cut(line: str, font: Font, width_px: float, always: bool = False) -> str:
    if not always and font.getlength(line) <= width_px:
        return line
    while line and font.getlength(line + "…") > width_px:
        line = line[:-1]
    return line.rstrip() + "…"
