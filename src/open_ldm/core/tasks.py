"""One task of several that share work without talking to each other, as the jobs of a Slurm array: `--task 3/16`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from open_ldm.core.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True)
class Task:
    """Task number `number` of `count`, counted from 1."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Task:
        """Read 'i/n'. Raises ConfigError for anything else."""
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            raise ConfigError(
                f"--task {text!r} names no task",
                needed="i/n with i from 1 to n",
                fix="in a Slurm array of 1-16: --task $SLURM_ARRAY_TASK_ID/16",
            )
        return cls(int(found[1]), int(found[2]))

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Return every n-th item, from number i on: what comes late in a list is shared too."""
        return items[self.number - 1 :: self.count]
