"""Held-out reconstructions of a run: their events, their pictures, and their part of the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from open_ldm.autoencoders.reconstruct import Reconstructions
from open_ldm.core.display import as_shown
from open_ldm.core.events import Event, effective_events, read_events
from open_ldm.core.pictures import grid, save_png
from open_ldm.pages.content import Picture, link_to
from open_ldm.run_folder.report.page import Section

EVENT = "reconstruction"
_MOST_ROWS = 12
_CAPTIONS = {"worst.png": "The worst of them, by PSNR", "others.png": "Others, from the worst to the best"}


@dataclass(frozen=True)
class Check:
    """One measurement on the held-out pictures.

    Attributes:
        samples_seen: By the autoencoder.
        pictures: How many were measured.
        mean_psnr_db: Mean over the pictures, in dB.
        worst_psnr_db: Mean over the worst 5 % of them, in dB.
        files: Picture files, relative to the run folder.
        channels_psnr_db: Of each channel by itself; empty in older runs.
    """

    samples_seen: int
    pictures: int
    mean_psnr_db: float
    worst_psnr_db: float
    files: tuple[str, ...]
    channels_psnr_db: tuple[float, ...] = ()


def write_pictures(found: Reconstructions, shown: int, stem: Path, display: Sequence[int] | None = None) -> list[Path]:
    """Write STEM-worst.png and, of the pictures that are not among the worst, STEM-others.png.

    Inputs stand above their reconstructions.

    Args:
        found: The reconstructions.
        shown: How many pictures a file shows at most.
        stem: Path of the files without the end of their names.
        display: Channels to show, as in core/display.py.

    Returns:
        The files; one where all pictures are among the worst.
    """
    worst, rest = found.order[:shown], found.order[shown:]
    others = rest[torch.linspace(0, len(rest) - 1, min(shown, len(rest))).round().long()]
    paths = []
    for name, indices in (("worst", worst), ("others", others)):
        if len(indices) == 0:
            continue
        paths.append(stem.with_name(f"{stem.name}-{name}.png"))
        save_png(paths[-1], _above_each_other(found, indices.tolist(), display))
    return paths


def _above_each_other(found: Reconstructions, indices: Sequence[int], display: Sequence[int] | None) -> Image.Image:
    pixels = [as_shown(side[i], display) for side in (found.given, found.found) for i in indices]
    headers = [f"{found.psnr_db[i]:.1f} dB" for i in indices]
    return grid(pixels, len(indices), row_headers=["input", "reconstruction"], column_headers=headers)


def read_checks(run: Path) -> list[Check]:
    """Read all checks that the run's present weights went through, in order."""
    events = [event for event in effective_events(read_events(run / "events.jsonl")) if event.name == EVENT]
    return [check for event in events if (check := _check(event)) is not None]


def _check(event: Event) -> Check | None:
    """None for an event that lacks something."""
    mean, worst, pictures = (event.number(name) for name in ("mean_psnr_db", "worst_psnr_db", "pictures"))
    files = event.fields.get("files")
    if mean is None or worst is None or pictures is None or not isinstance(files, list):
        return None
    by_channel = event.fields.get("channels_psnr_db")
    channels = tuple(map(float, by_channel)) if isinstance(by_channel, list) else ()
    return Check(event.samples_seen, int(pictures), mean, worst, tuple(map(str, files)), channels)


def sections_of(run: Path) -> list[Section]:
    """The report's part about reconstructions; empty before the first check."""
    checks = read_checks(run)
    if not checks:
        return []
    newest = checks[-1]
    text = (
        f"{newest.pictures} pictures that training never sees, encoded to the mean of their posterior and decoded again by the"
        " averaged weights. PSNR in dB of 8-bit pixels, higher is better; 'worst 5 %' is the mean over the worst of them."
    )
    if len(newest.channels_psnr_db) > 1:
        text += f" By channel, the first one first: {', '.join(f'{one:.2f}' for one in newest.channels_psnr_db)} dB."
    rows = [[f"{check.samples_seen:,}", f"{check.mean_psnr_db:.2f}", f"{check.worst_psnr_db:.2f}"] for check in checks]
    skipped = [["…", "…", "…"]] if len(rows) > _MOST_ROWS else []
    rows = rows if not skipped else [*rows[: _MOST_ROWS // 2], *skipped, *rows[-_MOST_ROWS // 2 :]]
    columns = ["samples seen", "mean PSNR, dB", "worst 5 %, dB"]
    return [Section("Held-out reconstructions", text, _pictures(run, newest), columns, rows)]


def _pictures(run: Path, check: Check) -> list[Picture]:
    """The pictures of a check; runs of before may have written the same one twice."""
    files = {file: (run / file).read_bytes() for file in check.files if (run / file).is_file()}
    if len(set(files.values())) < 2:
        captions = dict.fromkeys(list(files)[:1], "From the worst to the best, by PSNR")
    else:
        captions = {file: _CAPTIONS.get(file.rpartition("-")[2], file) for file in files}
    return [
        Picture(caption, files[file], href=link_to(run / file, run / "report.html").href) for file, caption in captions.items()
    ]
