"""The count of bad samples by reason, and the budget that ends a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from open_ldm.core.counted import counted
from open_ldm.core.errors import DataError, shortened
from open_ldm.core.files import write_json
from open_ldm.data.sample import BadSample, Source

BUDGET_SHARE = 0.01
"""A run ends when more than this share of the data set's samples is bad."""


class Health:
    """Count of the distinct bad samples of a data set of `pictures` samples. The caller writes `to_json()` to health.json."""

    def __init__(self, pictures: int) -> None:
        self.pictures = pictures
        self._ids_by_reason: dict[str, dict[str, None]] = {}

    @property
    def bad(self) -> int:
        """Number of distinct bad samples."""
        return len({name for ids in self._ids_by_reason.values() for name in ids})

    @property
    def ids_by_reason(self) -> Mapping[str, tuple[str, ...]]:
        """Ids of bad samples by reason, in the order in which they were met."""
        return {reason: tuple(ids) for reason, ids in self._ids_by_reason.items()}

    def add(self, bad: Iterable[BadSample]) -> tuple[BadSample, ...]:
        """Count bad samples; return those that are new, once each."""
        new = []
        for sample in bad:
            ids = self._ids_by_reason.setdefault(sample.reason, {})
            if sample.id not in ids:
                ids[sample.id] = None
                new.append(sample)
        return tuple(new)

    def check(self) -> None:
        """Raise DataError when more than 1 % of the data set is bad."""
        if self.bad > BUDGET_SHARE * self.pictures:
            raise DataError(
                self.sentence(),
                needed=f"at most {BUDGET_SHARE:.0%} bad samples",
                fix="repair or remove the files listed in health.json",
            )

    def sentence(self) -> str:
        """Write '3 of 1,204 pictures are bad: truncated or damaged 2 (a.jpg, b.jpg), not a picture 1 (c.jpg)'."""
        if not self.bad:
            return f"0 of {counted(self.pictures, 'picture')} found bad"
        parts = [f"{reason} {len(ids)} ({shortened(ids, 3)})" for reason, ids in self._ids_by_reason.items()]
        return f"{self.bad:,} of {counted(self.pictures, 'picture')} {'is' if self.bad == 1 else 'are'} bad: {', '.join(parts)}"

    def to_json(self) -> dict[str, Any]:
        """Return plain data: number of pictures, ids of bad samples by reason, and the sentence."""
        return {
            "pictures": self.pictures,
            "bad": {reason: list(ids) for reason, ids in self._ids_by_reason.items()},
            "sentence": self.sentence(),
        }

    def write(self, file: Path, *, writes: bool = True) -> None:
        """Write which samples are bad, if any, in place of what a file says; only where this process `writes`."""
        if writes:
            file.unlink(missing_ok=True)
            if self.bad:
                write_json(file, self.to_json())


def count_bad_samples(file: Path, source: Source, bad: Iterable[BadSample], *, writes: bool) -> Health:
    """Start a new count of bad samples with those that a survey found, and write it down.

    The count starts anew with every process, so that files that were fixed or removed since the last one no longer count.

    Args:
        file: health.json of the run.
        source: The data set.
        bad: What was found.
        writes: Whether this process writes.

    Returns:
        The count, which goes on while training reads.

    Raises:
        DataError: Too many samples are bad.
    """
    health = Health(len(source))
    health.add(bad)
    health.write(file, writes=writes)
    health.check()
    return health
