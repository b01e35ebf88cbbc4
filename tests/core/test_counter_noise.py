"""Counter-based noise: the published answers of Philox, moments, and rows that depend on their position alone."""

from __future__ import annotations

import math

import pytest
import torch

from open_ldm.core import counter_noise
from open_ldm.core.counter_noise import normal, philox

CPU = torch.device("cpu")
PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), 0x299F31D0A4093822
ONES = (0xFFFFFFFF,) * 4, 0xFFFFFFFFFFFFFFFF
ZEROS = (0,) * 4, 0


@pytest.mark.parametrize(
    ("given", "wanted"),
    [  # kat_vectors of Random123, "philox4x32 10"
        (ZEROS, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (ONES, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (PI, (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
    ],
)
def test_known_answers(given: tuple[tuple[int, ...], int], wanted: tuple[int, ...]) -> None:
    words = philox([torch.tensor([word]) for word in given[0]], given[1])
    assert tuple(int(word) for word in words) == wanted


def test_moments_and_shape_are_those_of_a_normal_distribution() -> None:
    drawn = normal(3, "padding", range(64), (50, 61), CPU).double()
    assert drawn.shape == (64, 50, 61) and torch.isfinite(drawn).all()
    numbers, count = drawn.flatten(), drawn.numel()
    for power, wanted, spread in ((1, 0, 1), (2, 1, math.sqrt(2)), (3, 0, math.sqrt(15)), (4, 3, math.sqrt(96))):
        assert abs(float((numbers**power).mean()) - wanted) < 5 * spread / math.sqrt(count), power
    ordered, reached = numbers.sort().values, torch.arange(1, count + 1) / count
    below = 0.5 * (1 + torch.erf(ordered / math.sqrt(2)))
    assert float((below - reached).abs().max()) < 1.95 / math.sqrt(count)  # Kolmogorov & Smirnov, one in a thousand
    rows = drawn.flatten(1)
    beside = torch.corrcoef(torch.stack((rows[:, :-1].flatten(), rows[:, 1:].flatten())))[0, 1]
    between = torch.corrcoef(torch.stack((rows[:-1].flatten(), rows[1:].flatten())))[0, 1]
    assert max(abs(float(beside)), abs(float(between))) < 5 / math.sqrt(count)


@pytest.mark.parametrize("most", [1, 7, 1 << 22])
def test_rows_depend_on_their_position_alone(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    positions = [5, 3, 2**32 + 5, 2**40, 0]
    whole = normal(1, "padding", positions, (3, 5), CPU)
    monkeypatch.setattr(counter_noise, "_MOST_COUNTERS", most)
    parts = torch.cat([normal(1, "padding", part, (3, 5), CPU) for part in (positions[:2], positions[2:3], positions[3:])])
    assert torch.equal(parts, whole)
    assert len({float(row[0, 0]) for row in whole}) == len(positions)
    for seed, purpose in ((2, "padding"), (1, "noise")):
        assert not (normal(seed, purpose, positions, (3, 5), CPU) == whole).any()


def test_a_longer_row_begins_with_the_shorter_one() -> None:
    assert torch.equal(normal(1, "padding", [4], (9,), CPU)[:, :6], normal(1, "padding", [4], (6,), CPU))
