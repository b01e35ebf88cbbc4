"""Numbers with what they count, in the singular where it is one."""

from __future__ import annotations


def counted(count: int, one: str, many: str = "") -> str:
    """Write '1 picture', '2 pictures', '1,204 pictures'.

    Args:
        count: How many.
        one: The word for one of them.
        many: That for several; without it `one` with an s.
    """
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"
