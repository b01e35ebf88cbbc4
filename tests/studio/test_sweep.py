"""A swept control: one seed, the first picture as the measure of the others."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from open_ldm.core.errors import ConfigError
from open_ldm.evaluation.readers import ShapesReader
from open_ldm.studio.models import Models
from open_ldm.studio.play import PlayRequest, play
from open_ldm.studio.sweep import changes_in_drawings, changes_of_layout, difference_png, sweep
from tests.studio.conftest import job


def drawing(colour: tuple[int, int, int], left: bool) -> torch.Tensor:
    pixels = torch.full((3, 32, 32), 240, dtype=torch.uint8)
    columns = slice(3, 15) if left else slice(17, 29)
    for channel, value in enumerate(colour):
        pixels[channel, 8:24, columns] = value
    return pixels


RED, BLUE = (220, 40, 40), (40, 70, 220)


def test_drawings_are_read_and_what_the_control_is_there_to_change_is_left_out() -> None:
    same, other = drawing(RED, True), drawing(BLUE, True)
    assert changes_in_drawings("size", ["8x8", "64x64"], [same, same])[1] == ("content stays", False)
    assert changes_in_drawings("size", ["8x8", "64x64"], [same, other])[1] == ("colour: red → blue", True)
    assert not changes_in_drawings("flip", ["0", "1"], [same, drawing(RED, False)])[1][1]
    assert changes_in_drawings("size", ["8x8", "64x64"], [same, drawing(RED, False)])[1][1]


def test_a_kind_that_a_coarse_picture_hides_is_no_change() -> None:
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    inside = (rows >= 8) & (rows < 24) & ((columns - 8.5).abs() < (rows - 7) / 2)
    triangle = torch.where(inside, torch.tensor(RED)[:, None, None], 240).to(torch.uint8)
    other = drawing(RED, True)
    first, second = (ShapesReader().read(one[None])[0] for one in (triangle, other))
    assert {name for name in first if first[name] != second[name]} == {"kind"}
    assert changes_in_drawings("size", ["8x8", "64x64"], [triangle, other])[1] == ("content stays", False)
    assert changes_in_drawings("aspect", ["1", "2"], [triangle, other])[1][1]  # where pictures stay sharp, kinds count


def test_layout_is_compared_where_nobody_reads() -> None:
    same = drawing(RED, True)
    assert changes_of_layout("size", ["a", "b"], [same, same])[1] == ("layout differs by 0.0 %", False)
    assert changes_of_layout("flip", ["0", "1"], [same, same.flip(-1)])[1][0] == "layout differs by 0.0 %"
    assert changes_of_layout("size", ["a", "b"], [same, same.flip(-1)])[1][0] != "layout differs by 0.0 %"


def test_the_map_is_white_where_nothing_differs() -> None:
    apart = torch.zeros(4, 4)
    apart[0, 0] = 1.0
    colours = np.asarray(Image.open(io.BytesIO(difference_png(apart))))
    assert tuple(colours[1, 1]) == (255, 255, 255) and tuple(colours[0, 0]) == (140, 10, 30)


def test_every_model_has_a_row_with_the_pictures_of_play(models: Models) -> None:
    request = PlayRequest(model="improved", prompt="a red circle", seed=4, controls={"flip": "1"})
    rows = sweep(models, ["entangled", "improved"], request, "size", ["20x20", "90x90"], job())
    assert [row.model for row in rows] == ["entangled", "improved"]
    assert [cell.value for cell in rows[0].cells] == ["20x20", "90x90"]
    first, second = rows[0].cells
    assert first.difference is None and first.detail == 0 and second.difference is not None and second.detail > 0
    second = rows[1].cells[1]
    own = play(models, request.model_copy(update={"controls": {"flip": "1", "size": "90x90"}}), job()).pictures[0].png
    found, wanted = (np.asarray(Image.open(io.BytesIO(png)), dtype=int) for png in (second.png, own))
    assert np.abs(found - wanted).max() <= 1


@pytest.mark.parametrize(
    ("control", "values"), [("flip", ["0", "1"]), ("size", ["8x8"]), ("size", ["1x1"] * 9), ("size", ["8x8", "x"])]
)
def test_a_control_or_values_that_do_not_fit_are_refused(models: Models, control: str, values: list[str]) -> None:
    with pytest.raises(ConfigError):
        sweep(models, ["entangled"], PlayRequest(model="entangled", prompt="a red circle"), control, values, job())
