"""The colours of figures, each with what it becomes on a dark page."""

from __future__ import annotations

INK, INK_ON_DARK = "#4b525d", "#a9b1bd"
"""Text, axes and grid lines."""
STRONG, STRONG_ON_DARK = "#16181d", "#eef1f5"
"""Text on a coloured cell."""
PAPER, PAPER_ON_DARK = "#ffffff", "#14171c"
"""What a figure in a file of its own is drawn on."""
CURVES = ("#2f6fde", "#d2601a", "#1f8a5f", "#a8448f", "#8a6d1f", "#6b6ad1")
CURVES_ON_DARK = ("#7fb0ff", "#ff9d5c", "#5fd3a2", "#e58fcb", "#dcc06a", "#b3b1ff")

ON_DARK = {STRONG: STRONG_ON_DARK, PAPER: PAPER_ON_DARK, **dict(zip(CURVES, CURVES_ON_DARK, strict=True))}
"""Every colour but the ink, as written in a figure -> on a dark page."""
