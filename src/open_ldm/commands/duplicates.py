"""`ldm data survey --duplicates`: pictures that are there twice, above all on both sides of the hold-out, shown as a sheet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_ldm.core.counted import counted
from open_ldm.core.display import as_shown
from open_ldm.core.events import Progress
from open_ldm.core.files import write_json
from open_ldm.core.pictures import grid, save_png
from open_ldm.data.duplicates import Duplicates, Pair, find_duplicates
from open_ldm.data.holdout import HoldoutConfig, divide
from open_ldm.data.sample import BadPicture, Source
from open_ldm.data.transforms import CenterCrop, TransformConfig, transform
from open_ldm.sources import open_source
from open_ldm.sources.loader import DataConfig

FOLDER = Path("duplicates")
SHEET, LISTED = "duplicates.png", "duplicates.json"
_MOST_SHOWN = 24
_SHOWN_PX = 128


@dataclass(frozen=True)
class DuplicateReport:
    """What was found, with the names of the pictures.

    Attributes:
        found: The pairs.
        names: Names of the two pictures of each pair.
        across: Whether the two of each pair lie on both sides of the hold-out; all False without one.
        held_out: Whether the data have a hold-out.
        sheet: A picture of pairs; None where there are none.
    """

    found: Duplicates
    names: tuple[tuple[str, str], ...]
    across: tuple[bool, ...]
    held_out: bool
    sheet: Path | None

    def text(self) -> str:
        """Write counts, the first pairs, and where the sheet is."""
        found = self.found
        near = len(found.pairs) - found.exact
        more = " and more" if found.more else ""
        copies, alike = counted(found.exact, "copy", "copies"), counted(near, "pair that looks", "pairs that look")
        lines = [f"{counted(found.pictures, 'picture')}: {copies} byte for byte, {alike} alike{more}"]
        if self.held_out:
            pairs = sum(self.across)
            lines.append(
                f"{counted(pairs, 'pair lies', 'pairs lie')} across the hold-out"
                + (": the held-out pictures are not new to the model" if pairs else "")
            )
        else:
            lines.append("no hold-out in this recipe (data.holdout={share: 0.05}), so no pairs across it")
        for pair, names, across in list(zip(found.pairs, self.names, self.across, strict=True))[:8]:
            kind = "copy" if pair.exact else f"{pair.bits} of 64 bits differ"
            lines.append(f"  {names[0]}  {names[1]}  ({kind}{', across the hold-out' if across else ''})")
        flat = counted(found.flat, "picture without contrast was", "pictures without contrast were")
        lines += [f"{flat} compared by bytes only"] if found.flat else []
        lines += [f"{counted(found.bad, 'picture')} cannot be read"] if found.bad else []
        return "\n".join(lines + ([f"sheet: {self.sheet}"] if self.sheet else []))

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        listed = zip(self.found.pairs, self.names, self.across, strict=True)
        pairs = [{"names": list(names), "bits": pair.bits, "exact": pair.exact, "across": side} for pair, names, side in listed]
        found = self.found
        counts = {
            "pictures": found.pictures,
            "copies": found.exact,
            "across": sum(self.across),
            "flat": found.flat,
            "bad": found.bad,
        }
        return {**counts, "more": found.more, "held_out": self.held_out, "pairs": pairs}


def duplicates_of(data: DataConfig, out: Path | None = None, *, silent: bool = False) -> DuplicateReport:
    """Find what is there twice in all parts of a recipe's data; arguments as `report_duplicates`."""
    return report_duplicates(open_source(data.source), data.holdout, out, silent=silent)


def report_duplicates(
    source: Source, holdout: HoldoutConfig | None, out: Path | None = None, *, silent: bool = False
) -> DuplicateReport:
    """Find pictures that are there twice and write a sheet of the first pairs, those across the hold-out before the others.

    Args:
        source: All pictures, training's and held-out ones.
        holdout: What is held out.
        out: Folder for the sheet and the list; the default is `duplicates`.
        silent: Show no progress.

    Raises:
        ConfigError: The data have no column `holdout.by`.
        DiskError: The disk refuses.
    """
    held_out = None if holdout is None else divide(source, holdout)[0]
    with Progress(len(source), label="compare", unit="pictures", silent=silent) as progress:
        found = find_duplicates(source, lambda done: progress.update(done))

    def across(pair: Pair) -> bool:
        """Whether the hold-out divides a pair."""
        return held_out is not None and bool(held_out[pair.first] != held_out[pair.second])

    pairs = tuple(sorted(found.pairs, key=lambda pair: not across(pair)))  # stable: within both parts the order stays
    found = Duplicates(pairs, found.pictures, found.flat, found.bad, found.more)
    names = tuple((source.sample_id(pair.first), source.sample_id(pair.second)) for pair in pairs)
    sides = tuple(across(pair) for pair in pairs)
    if not pairs:
        return DuplicateReport(found, names, sides, holdout is not None, None)
    folder = FOLDER if out is None else out
    folder.mkdir(parents=True, exist_ok=True)
    report = DuplicateReport(found, names, sides, holdout is not None, folder / SHEET)
    _draw(source, report, folder / SHEET)
    write_json(folder / LISTED, report.to_json())
    return report


def _draw(source: Source, report: DuplicateReport, path: Path) -> None:
    rule = TransformConfig(size_px=_SHOWN_PX, crop=CenterCrop())
    tiles, captions = [], []
    for pair, names, across in list(zip(report.found.pairs, report.names, report.across, strict=True))[:_MOST_SHOWN]:
        kind = "copy" if pair.exact else f"{pair.bits} bits"
        for index, name in zip((pair.first, pair.second), names, strict=True):
            try:
                sample = source[index]
            except BadPicture:
                continue
            tiles.append(as_shown(transform(sample.pixels, sample.pixels.shape[:2], rule, 0, 0).pixels))
            captions.append(f"{name} ({kind}{', across' if across else ''})")
    if tiles:
        save_png(path, grid(tiles, 6, captions=captions, scale=1))
