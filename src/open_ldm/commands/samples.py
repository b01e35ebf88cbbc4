"""Sampled pictures: shown as one grid, and written as PNG files with samples.json, which says how each was made.

Pictures of several channels of their own are written twice: as people are shown them, and as numbers that a source reads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor

from open_ldm.checkpoints.names import run_folder_of
from open_ldm.commands.refresh_report import refresh_report
from open_ldm.core.counted import counted
from open_ldm.core.display import as_shown
from open_ldm.core.errors import ConfigError, DiskError
from open_ldm.core.files import read_json_object, write_bytes, write_json
from open_ldm.core.pictures import grid, npy_bytes, png_bytes, save_png, to_picture, to_pixels
from open_ldm.data.ome import in_file_units, tiff_bytes
from open_ldm.run_folder.own_folder import require_no_run
from open_ldm.runs.load import LoadedRun
from open_ldm.sampling.generate import SamplingConfig
from open_ldm.sampling.requests import SampleRequest
from open_ldm.sources import channels_of, exact_files_of

_GRID_COLUMNS = 8
GRID, SAMPLES = "grid.png", "samples.json"
_SAMPLED = re.compile(r"\d{5,}\.(png|npy|tif)")


@dataclass(frozen=True)
class Sheet:
    """Pictures to sample, in the order of the grid. Headers name what varies along it; without them captions stand below.

    `negative`: what guidance leads away from.
    """

    requests: tuple[SampleRequest, ...]
    columns: int = _GRID_COLUMNS
    row_headers: tuple[str, ...] | None = None
    column_headers: tuple[str, ...] | None = None
    negative: str | None = None


@dataclass(frozen=True)
class SampledFolder:
    """What was written. `numbers`: of pictures with channels of their own, .npy files of uint8 [H, W, C], or 16-bit TIFF."""

    folder: Path
    grid: Path
    pictures: tuple[Path, ...]
    numbers: tuple[Path, ...] = ()

    def sentence(self) -> str:
        """One line for people."""
        also = f" (.png to look at, {self.numbers[0].suffix} with all channels)" if self.numbers else ""
        return f"{counted(len(self.pictures), 'picture')} in {self.folder}{also}; all at once: {self.grid}"

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        content: dict[str, Any] = {"folder": str(self.folder), "grid": str(self.grid)}
        content["pictures"] = [str(path) for path in self.pictures]
        return content | ({"numbers": [str(path) for path in self.numbers]} if self.numbers else {})


@dataclass(frozen=True, eq=False)
class Exact:
    """Pictures uint16 [C, H, W] in the numbers of the files that a run was trained on, and the names of their channels."""

    pictures: Sequence[NDArray[np.uint16]]
    channel_names: tuple[str, ...]

    def files(self) -> list[bytes]:
        """Return each picture as the bytes of a 16-bit TIFF."""
        return [tiff_bytes(picture, self.channel_names) for picture in self.pictures]


@dataclass(frozen=True, eq=False, repr=False)
class Samples:
    """Pictures sampled from a run, which a notebook shows as one grid; `open_ldm.Samples` tells its attributes."""

    run: Path
    samples_seen: int
    problems: tuple[str, ...]
    sheet: Sheet
    settings: SamplingConfig
    pixels: Tensor
    channels: int | None
    display: Sequence[int] | None
    exact: Exact | None = None
    start: Mapping[str, Any] | None = None
    guide: Mapping[str, Any] | None = None

    @classmethod
    def of(
        cls,
        run: LoadedRun,
        sheet: Sheet,
        settings: SamplingConfig,
        images: Tensor,
        start: Mapping[str, Any] | None = None,
        guide: Mapping[str, Any] | None = None,
    ) -> Samples:
        """Return images [N, C, H, W] in [-1, 1] as pixels, with what must be known to show and to write them."""
        data = run.recipe.data
        exact, files = None, exact_files_of(data.source)
        if files is not None:
            wide = to_pixels(images, bits=16).cpu().numpy()
            exact = Exact([in_file_units(one, files.channel_range) for one in wide], files.channel_names or ())
        pixels, channels = to_pixels(images), channels_of(data.source)
        made = (sheet, settings, pixels, channels, data.display, exact, start, guide)
        return cls(run.path, run.samples_seen, run.problems, *made)

    @property
    def requests(self) -> tuple[SampleRequest, ...]:
        """The request of each picture: its seed, its prompt or class, its controls."""
        return self.sheet.requests

    def images(self) -> list[Image]:
        """Return each picture as people are shown it: RGB, or grey for one channel."""
        pictures = [to_picture(one) for one in as_shown(self.pixels, self.display)]
        return [picture.convert("L") for picture in pictures] if self.channels == 1 else pictures

    def grid(self) -> Image:
        """Return all pictures on one sheet, with their prompts or classes below; small ones are enlarged."""
        sheet, seen = self.sheet, as_shown(self.pixels, self.display)
        captions = [request.shows or "" for request in sheet.requests]
        if sheet.column_headers is None and any(captions):
            return grid(seen, sheet.columns, captions=captions)
        return grid(seen, sheet.columns, row_headers=sheet.row_headers, column_headers=sheet.column_headers)

    def save(self, folder: str | Path | None = None) -> SampledFolder:
        """Write what `ldm sample` writes: one PNG for each picture, grid.png and samples.json.

        Args:
            folder: Where to; without one RUN/drawn/0001, 0002, ..., so that nothing is overwritten.

        Returns:
            The files that were written.

        Raises:
            ConfigError: The folder holds older pictures that would stay among these, or files of other things.
            DiskError: The disk refuses.
        """
        out = _claimed_folder(self.run) if folder is None else Path(folder)
        ending = self._numbers_in
        refuse_older(out, len(self.requests), numbers=ending)
        paths = [out / f"{index:05d}.png" for index in range(len(self.requests))]
        numbers = [path.with_suffix(ending) for path in paths] if ending else []
        try:
            write_json(out / SAMPLES, self._content(paths, ending))  # first: by it the same call knows the folder again
            for path, picture in zip(paths, self.images(), strict=True):
                save_png(path, picture)
            contents = self.exact.files() if self.exact is not None else map(npy_bytes, self.pixels)
            for path, content in zip(numbers, contents, strict=bool(numbers)):
                write_bytes(path, content)
            save_png(out / GRID, self.grid())
        except OSError as error:
            raise DiskError(f"cannot write to {out}: {error.strerror}", fix="choose another folder") from error
        if folder is None:
            refresh_report(out.parent.parent)
        return SampledFolder(out, out / GRID, tuple(paths), tuple(numbers))

    @property
    def _numbers_in(self) -> str:
        """Ending of the files with all channels or all bits; '' where a PNG shows everything."""
        if self.exact is not None:
            return ".tif"
        return "" if self.channels in (None, 1) else ".npy"

    def _content(self, paths: Sequence[Path], numbers: str) -> dict[str, Any]:
        """Return the content of samples.json."""
        pictures = [
            {
                "file": path.name,
                **({"numbers": path.with_suffix(numbers).name} if numbers else {}),
                "seed": request.seed,
                "shows": request.shows,
                "controls": dict(request.controls),
            }
            for path, request in zip(paths, self.requests, strict=True)
        ]
        return {
            "run": str(self.run),
            "samples_seen": self.samples_seen,
            "passed_over": list(self.problems),
            "sampling": self.settings.model_dump(mode="json"),
            "negative_prompt": self.sheet.negative,
            **({} if self.start is None else {"start": dict(self.start)}),
            **({} if self.guide is None else {"guide": dict(self.guide)}),
            "pictures": pictures,
        }

    def __len__(self) -> int:
        return len(self.requests)

    def __repr__(self) -> str:
        channels, height, width = self.pixels.shape[1:]
        return f"<{counted(len(self), 'sample')} of {channels} x {height} x {width} from {self.run}>"

    def _repr_png_(self) -> bytes:
        return png_bytes(self.grid())


def refuse_older(folder: Path, count: int, *, numbers: str | None = None) -> None:
    """Look at a folder that `count` pictures are to be written to.

    Args:
        folder: It may be new, empty, or that of an earlier sampling whose pictures are all replaced.
        count: How many pictures.
        numbers: The ending of the files with all channels, '' for none; None where it is not known yet.

    Raises:
        ConfigError: It is the folder of a run, it holds files that no earlier sampling wrote, or pictures of one would stay.
    """
    require_no_run(folder, "samples")
    endings = (".png", ".npy", ".tif") if numbers is None else (".png", numbers)
    new = {f"{index:05d}{ending}" for index in range(count) for ending in endings}
    refuse_others(folder, {GRID, SAMPLES, *new})
    present = (entry.name for entry in folder.iterdir()) if folder.is_dir() else ()
    old = sorted(name for name in present if _SAMPLED.fullmatch(name) and name not in new)
    if old:
        raise ConfigError(
            f"{folder} holds {counted(len(old), 'picture')} of an earlier sampling that would stay, such as {old[0]}",
            needed="pictures of one sampling in a folder",
            fix="choose another folder, or remove them",
        )


def refuse_others(folder: Path, written: Set[str] = frozenset()) -> None:
    """Refuse to put samples among files of other things, such as pictures to train on, or in their place.

    Args:
        folder: Where samples are to be written. It may be new or empty; hidden files do not count.
        written: Names that would be replaced: in the folder of an earlier sampling its samples.json must name them.

    Raises:
        ConfigError: It holds files, and no samples.json of an earlier sampling, or one that does not name these.
    """
    present = {entry.name for entry in folder.iterdir() if not entry.name.startswith(".")} if folder.is_dir() else set()
    named = _sampled_names(folder)
    if others := present if named is None else (present & written) - named:
        raise ConfigError(
            f"{folder} holds files that no earlier sampling wrote, such as {min(others)}",
            needed="a new or empty folder, or that of an earlier sampling",
            fix="choose another folder",
        )


def _sampled_names(folder: Path) -> set[str] | None:
    """The files that an earlier sampling wrote, none of an array's; None without a samples.json that one wrote."""
    content = read_json_object(folder / SAMPLES)
    if not {"run", "samples_seen", "sampling"} <= content.keys():
        return None
    if not isinstance(pictures := content.get("pictures"), list):
        return set() if "array" in content else None
    listed = [one for one in pictures if isinstance(one, Mapping)]
    return {GRID, SAMPLES, *(str(one.get(kind)) for one in listed for kind in ("file", "numbers"))}


def _claimed_folder(run: Path) -> Path:
    """Make RUN/drawn/0001, 0002, ...: nothing is overwritten, also where another process samples at the same time."""
    root = run_folder_of(run) / "drawn"
    try:
        root.mkdir(parents=True, exist_ok=True)
        taken = (int(entry.name) for entry in root.iterdir() if entry.name.isdecimal())
        number = max(taken, default=0) + 1
        while not _made(root / f"{number:04d}"):
            number += 1  # not listed anew: a network disk may list what another machine made only later
        return root / f"{number:04d}"
    except OSError as error:
        raise DiskError(f"cannot write to {root}: {error.strerror}", fix="choose another folder") from error


def _made(folder: Path) -> bool:
    """Make a folder; False where there is one."""
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True
