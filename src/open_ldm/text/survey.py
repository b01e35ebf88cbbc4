"""How a data set's captions fit a text encoder: those that are missing, and those that are cut."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from open_ldm.data.sample import Source
from open_ldm.data.survey import spread
from open_ldm.text.base import TextEncoder


@dataclass(frozen=True)
class CaptionSurvey:
    """`without`: pictures of `pictures` that have no caption (they train as if it were dropped). `cut`: captions out of
    `examined`, spread evenly over all, whose end the encoder leaves out."""

    pictures: int
    without: int
    examined: int
    cut: int

    def problems(self) -> list[str]:
        """What the user should know, one line each; nothing when every picture has a caption that fits."""
        lines = []
        if self.without:
            lines.append(f"{self.without:,} of {self.pictures:,} pictures have no caption; they train as if it were dropped")
        if self.cut:
            lines.append(f"{self.cut:,} of {self.examined:,} captions are longer than the text encoder's places and are cut")
        return lines

    def to_json(self) -> dict[str, Any]:
        """Plain data with the same names."""
        return asdict(self)


def survey_captions(encoder: TextEncoder, source: Source, limit: int = 2000) -> CaptionSurvey:
    """Look at up to `limit` captions."""
    captions = source.captions()
    examined = [captions[index] for index in spread(len(captions), limit)]
    summary = source.summary
    return CaptionSurvey(summary.pictures, summary.pictures - summary.captioned, len(examined), sum(encoder.cut(examined)))
