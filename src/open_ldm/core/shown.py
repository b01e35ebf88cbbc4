"""Results that show themselves: as text in a terminal, and as the same text in a notebook."""

from __future__ import annotations

import html
from abc import ABC, abstractmethod


class ShownAsText(ABC):
    """Base of a result that has a text for people: `print` writes it, and a notebook shows it with its tables."""

    @abstractmethod
    def text(self) -> str:
        """Write the result for people, as lines of text."""

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self.text())}</pre>"
