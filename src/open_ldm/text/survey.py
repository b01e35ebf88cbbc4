"""How a data set's captions fit a text encoder: how many are missing, and how many are cut."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from open_ldm.data.sample import Source
from open_ldm.data.survey import EXAMPLES_OF, some_captions, spread
from open_ldm.text.base import TextEncoder


@dataclass(frozen=True)
class CaptionSurvey:
    """How a data set's captions fit a text encoder.

    Attributes:
        pictures: Number of pictures.
        without: Pictures without a caption; they train as if it were dropped.
        examined: Captions that were examined, spread evenly over all.
        cut: Captions among these whose end the encoder leaves out.
    """

    pictures: int
    without: int
    examined: int
    cut: int

    def problems(self) -> list[str]:
        """Return what the user should know, one line each; nothing when every picture has a caption that fits."""
        lines = []
        if self.without:
            has = "has no caption; it trains" if self.without == 1 else "have no caption; they train"
            lines.append(f"{self.without:,} of {self.pictures:,} pictures {has} as if it were dropped")
        if self.cut:
            long = "is too long for the text encoder and is" if self.cut == 1 else "are too long for the text encoder and are"
            lines.append(f"{self.cut:,} of {self.examined:,} captions {long} cut")
        return lines

    def to_json(self) -> dict[str, Any]:
        """Return plain data with the same names."""
        return asdict(self)


def survey_captions(encoder: TextEncoder | None, source: Source, limit: int = 2000) -> CaptionSurvey | None:
    """Examine up to `limit` captions, spread evenly over all of the source, or over `some_captions` of a large one.

    Returns:
        What was found; None without an encoder.
    """
    if encoder is None:
        return None
    captions = some_captions(source, EXAMPLES_OF)
    examined = [captions[index] for index in spread(len(captions), limit)]
    summary = source.summary
    return CaptionSurvey(summary.pictures, summary.pictures - summary.captioned, len(examined), sum(encoder.cut(examined)))
