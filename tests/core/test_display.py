"""Pictures of N channels as people are shown them."""

from __future__ import annotations

import torch

from open_ldm.core.display import as_shown, colours_of
from open_ldm.core.pictures import to_picture


def random_pixels(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def test_grey_and_rgb_stay_as_they_are() -> None:
    for channels in (1, 3):
        pixels = random_pixels(2, channels, 4, 5)
        assert torch.equal(as_shown(pixels), pixels)
    torch.testing.assert_close(colours_of(3), torch.eye(3))


def test_every_channel_has_a_colour_of_its_own() -> None:
    for channels in range(2, 13):
        colours = colours_of(channels)
        assert colours.amax(dim=1).tolist() == [1.0] * channels
        assert torch.pdist(colours).min() > 0.3


def test_colours_are_added_and_clamped() -> None:
    pixels = torch.zeros(5, 1, 7, dtype=torch.uint8)
    for channel in range(5):
        pixels[channel, 0, channel] = 200
    pixels[:, 0, 5] = 255
    found = as_shown(pixels)
    torch.testing.assert_close(found[:, 0, :5].float(), (200 * colours_of(5).T).round(), atol=1, rtol=0)
    assert found[:, 0, 5].tolist() == [255, 255, 255]
    assert found[:, 0, 6].tolist() == [0, 0, 0]
    assert to_picture(found).size == (7, 1)


def test_three_chosen_channels_are_red_green_and_blue() -> None:
    pixels = random_pixels(2, 5, 4, 6)
    found = as_shown(pixels, (4, 0, 0))
    assert torch.equal(found, torch.stack([pixels[:, 4], pixels[:, 0], pixels[:, 0]], dim=1))
