"""The part of a run's report about what was measured of its samples while it trained."""

from __future__ import annotations

from open_ldm.core.events import duration
from open_ldm.pages.charts import Plot
from open_ldm.pages.content import Part, figure
from open_ldm.run_folder.history import RunHistory
from open_ldm.run_folder.report.training import curve_of

ON_THE_WAY = "evaluated"
"""Name of the event."""


def on_the_way_part(history: RunHistory) -> Part | None:
    """Fréchet distance and nearness to training pictures over samples seen; None where the run measured none."""
    events = history.named(ON_THE_WAY)
    if not events:
        return None
    last, size = events[-1], {"width": 520, "height": 300}
    distance = curve_of(events, "frechet_distance", "distance")
    nearer = curve_of(events, "nearer", "chance")
    count, among = last.number("pictures") or 0, last.number("training_pictures") or 0
    seconds = sum(event.number("seconds") or 0 for event in events)
    figures = [
        figure(
            Plot("Distance from the data", "samples seen", "Fréchet distance", [distance], from_zero=True, **size),  # type: ignore[arg-type]
            f"Of {count:,.0f} samples; {last.text('features')}. All {len(events)} times took {duration(seconds)} together.",
        ),
        figure(
            Plot("Nearer than pictures never seen", "samples seen", "chance", [nearer], from_zero=True, **size),  # type: ignore[arg-type]
            f"Chance that a sample lies nearer to one of {among:,.0f} training pictures than {last.text('against')}: about 0.5"
            " for new pictures of the same kind, 1 for repeated ones.",
        ),
    ]
    return Part("Samples on the way", "run/on_the_way.html", figures)
