"""Numbers with what they count."""

from __future__ import annotations

from open_ldm.core.counted import counted


def test_one_is_in_the_singular() -> None:
    assert [counted(count, "picture") for count in (0, 1, 2, 1204)] == [
        "0 pictures",
        "1 picture",
        "2 pictures",
        "1,204 pictures",
    ]
    assert [counted(count, "copy", "copies") for count in (1, 3)] == ["1 copy", "3 copies"]
