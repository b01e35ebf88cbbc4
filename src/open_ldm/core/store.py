"""torch's store, by which processes find each other, with a limit on every question.

A question to a store whose process is stopped would wait for ever: torch limits only some of them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TypeVar

from torch.distributed import PrefixStore  # type: ignore[attr-defined]  # torch documents it there
from torch.distributed.rendezvous import rendezvous

T = TypeVar("T")


class Store:
    """One connection to the store of the launch that the environment describes.

    Args:
        connect_seconds: How long the store may take to be there.
        answer_seconds: How long it may take to answer.

    Attributes:
        groups: The same store for torch's groups.

    Raises:
        RuntimeError: It cannot be reached. Every method raises this where it does not answer, and from then on.
    """

    def __init__(self, connect_seconds: float, answer_seconds: float) -> None:
        raw = next(iter(rendezvous("env://", timeout=timedelta(seconds=connect_seconds))))[0]
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # torchrun keeps one store for all attempts
        self.groups = PrefixStore(f"groups {attempt}", raw)
        self._store = PrefixStore(f"open_ldm {attempt}", raw)
        self._seconds = answer_seconds
        self._lost = False

    def write(self, key: str, text: str) -> None:
        """Write a text, in place of what was there."""
        self._asked(lambda: self._store.set(key, text))

    def write_first(self, key: str, text: str) -> str:
        """Write a text where there is none; returns the text that is there now."""
        return self._asked(lambda: self._store.compare_set(key, "", text)).decode()

    def has(self, key: str) -> bool:
        """Tell whether there is a text."""
        return self._asked(lambda: self._store.check([key]))

    def read(self, keys: Sequence[str]) -> list[str]:
        """Read texts that are there."""
        return [text.decode() for text in self._asked(lambda: self._store.multi_get(list(keys)))]

    def _asked(self, question: Callable[[], T]) -> T:
        if self._lost:
            raise RuntimeError("the store does not answer")
        answers: list[T] = []
        errors: list[Exception] = []

        def ask() -> None:
            """Ask, and keep the answer or the error for whoever waits."""
            try:
                answers.append(question())
            except Exception as error:
                errors.append(error)

        thread = threading.Thread(target=ask, name="store", daemon=True)
        thread.start()
        thread.join(self._seconds)
        if answers:
            return answers[0]
        self._lost = True
        raise RuntimeError("the store does not answer") from (errors[0] if errors else None)
