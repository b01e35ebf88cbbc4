"""Pictures of what a recipe computes: noise schedules and position tables."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from open_ldm.core.errors import ConfigError
from open_ldm.core.pictures import grid, save_png
from open_ldm.denoisers.blocks.positions import (
    BicubicPositions,
    ComputedPositions,
    Grid,
    GridChange,
    GridPositions,
    computed_table,
    coordinates,
    positions_on,
)
from open_ldm.model.spec import ProcessConfig
from open_ldm.pages.charts import Format, Plot, Series
from open_ldm.pages.figures import save_figure
from open_ldm.process.schedules import Schedule, build_schedule
from open_ldm.runs.recipe import Recipe
from open_ldm.runs.stages import build_stages, plan_stages
from open_ldm.runs.starting import settle_if_present

_TIMES = tuple(step / 10 for step in range(11))
_CELL_PX = 6
_TILE_PX = (96, 192)
"""Least height and width of a table's picture: small grids get larger cells, so that captions fit below."""
_BLUE, _WHITE, _RED = (38, 84, 168), (250, 250, 250), (186, 48, 36)


@dataclass(frozen=True)
class ShownSchedule:
    """A schedule as numbers and pictures. `rows`: t, then alpha_bar and log-SNR of each of `names`."""

    names: tuple[str, ...]
    rows: tuple[tuple[float, ...], ...]
    files: tuple[Path, ...]
    note: str = ""
    """What could not be shown."""

    def text(self) -> str:
        """A table, and where the pictures are."""
        heads = [f"{what} {name}".strip() for name in self.names for what in ("alpha_bar", "log-SNR")]
        width = 2 + max(map(len, (*heads, "0.00307692")))
        head = f"{'t':>5}" + "".join(f"{one:>{width}}" for one in heads)
        lines = [f"{row[0]:>5.2f}" + "".join(f"{value:>{width}.6g}" for value in row[1:]) for row in self.rows]
        return "\n".join([head, *lines, *filter(None, [self.note]), *map(str, self.files)])

    def to_json(self) -> dict[str, Any]:
        """Plain data; infinite log-SNR as text."""
        rows = [[value if abs(value) < float("inf") else str(value) for value in row] for row in self.rows]
        return {"names": list(self.names), "rows": rows, "files": [str(path) for path in self.files], "note": self.note}


def inspect_schedule(recipe: Recipe, out: Path, figure_format: Format = "svg") -> ShownSchedule:
    """Plot alpha_bar and log-SNR over t into `out`, also as they were before process.resolution moved them.

    What a recipe leaves to the run it starts from is settled by that run, where it is here; of a recipe in stages every stage's
    schedule is shown.
    """
    note = ""
    if recipe.stages:
        stages = build_stages(recipe, Path())
        both = zip(stages, plan_stages(stages), strict=True)
        shown = {f"of stage {stage.name}": its_recipe.process for stage, its_recipe in both}
        kinds = {name: process.schedule.kind for name, process in shown.items()}
        schedules = {name: process.build_schedule() for name, process in shown.items()}
    else:
        settled, source = settle_if_present(recipe)
        process = settled.process
        if recipe.init_from is not None and source is None and process.resolution is None:
            note = (
                f"it starts from {recipe.init_from.source}, which is not here: for pictures of another size the noise will move"
            )
        schedules = _before_and_after(process)
        kinds = dict.fromkeys(schedules, process.schedule.kind)
    fine = torch.linspace(0, 1, 401, dtype=torch.float64)
    label = {name: f"{kinds[name].replace('_', ' ')} {name}".strip() for name in schedules}
    times = fine.tolist()
    plots = {
        "alpha-bar": Plot(
            "alpha_bar of the noise schedule",
            "t (0 = data, 1 = noise)",
            "alpha_bar",
            [Series(label[name], times, alpha_bar(schedule, fine).tolist()) for name, schedule in schedules.items()],
        ),
        "log-snr": Plot(
            "log-SNR of the noise schedule",
            "t (0 = data, 1 = noise)",
            "log-SNR",
            [Series(label[name], times, schedule.log_snr(fine).tolist()) for name, schedule in schedules.items()],
        ),
    }
    files: list[Path] = []
    for name, plot in plots.items():
        files.append(out / f"schedule-{name}.{figure_format}")
        save_figure(files[-1], plot)
    coarse = torch.tensor(_TIMES, dtype=torch.float64)
    columns = [values.tolist() for one in schedules.values() for values in (alpha_bar(one, coarse), one.log_snr(coarse))]
    return ShownSchedule(tuple(schedules), tuple(zip(_TIMES, *columns, strict=True)), tuple(files), note)


def _before_and_after(process: ProcessConfig) -> dict[str, Schedule]:
    """A process's schedule by the size it is for, and before it the one it was moved from."""
    made, resolution = build_schedule(process.schedule), process.resolution
    if resolution is None:
        return {"": made}
    return {_px(resolution.from_px): made, _px(resolution.to_px): process.build_schedule()}


def alpha_bar(schedule: Schedule, t: Tensor) -> Tensor:
    """alpha^2 / (alpha^2 + sigma^2): of tables alpha_bar itself, and what has the same SNR for other schedules."""
    level = schedule.level(t)
    return level.alpha**2 / (level.alpha**2 + level.sigma**2)


def inspect_positions(base: Grid, size: Grid, width: int, out: Path, figure_format: Format = "svg") -> list[Path]:
    """Plot the tables that a network pre-trained on `base` gets on `size`, one for each kind, into `out`.

    positions.png: above, the columns of the table along one row of tokens (channels from top to bottom); below, how much each
    position of the new grid resembles each position of the old one. positions-coordinates.svg (or another `figure_format`): the
    coordinates, and the range seen.
    """
    if base == size:
        raise ConfigError(f"--from and --to are both {base[0]}x{base[1]}", needed="two different grids")
    if width % 4:
        raise ConfigError(f"--width {width} cannot be used", needed="a multiple of 4: sine and cosine of two coordinates")
    kinds: tuple[GridChange, ...] = get_args(GridChange)
    made: dict[str, ComputedPositions] = {"pre-training": GridPositions()}
    for kind in kinds:
        made[kind] = _computed(positions_on(GridPositions(), base, size, kind))
    grids = {name: base if name == "pre-training" else size for name in made}
    old = _along_columns(made["pre-training"], base, width)
    tables = {name: _along_columns(positions, grids[name], width) for name, positions in made.items()}
    tiles = [_coloured(table.t()) for table in tables.values()] + [_coloured(_cosines(old, table)) for table in tables.values()]
    names = [f"{name}: {grids[name][1]} columns" for name in tables]
    captions = [*names, *(f"likeness to pre-training, {name}" for name in tables)]
    picture = out / "positions.png"
    save_png(picture, grid(tiles, len(tables), captions=captions, scale=1))
    return [picture, _plot_coordinates(made, grids, base, out / f"positions-coordinates.{figure_format}")]


def _plot_coordinates(made: dict[str, ComputedPositions], grids: dict[str, Grid], base: Grid, path: Path) -> Path:
    series = [Series("end of the range seen", [0.0, 1.0], [float(base[1] - 1)] * 2)]
    for name, positions in made.items():
        if not isinstance(positions, BicubicPositions):
            columns = coordinates(positions, grids[name])[1]
            centres = [(column + 0.5) / len(columns) for column in range(len(columns))]
            series.append(Series(name, centres, columns.tolist()))
    plot = Plot("Column coordinates", "position in the picture, from left to right", "coordinate", series, from_zero=True)
    save_figure(path, plot)
    return path


def grid_of(text: str) -> Grid:
    """'16' -> (16, 16), '16x24' -> (16, 24). Raises ConfigError for anything else."""
    found = re.fullmatch(r"([1-9]\d{0,3})(?:x([1-9]\d{0,3}))?", text)
    if found is None:
        raise ConfigError(f"grid {text!r} cannot be read", needed="a number of tokens a side, or ROWSxCOLUMNS, such as 16x24")
    return int(found[1]), int(found[2] or found[1])


def _along_columns(positions: ComputedPositions, size: Grid, width: int) -> Tensor:
    """Vectors [columns, D / 2] of the positions of the first row, the half that tells columns apart."""
    return computed_table(positions, size, width).view(*size, width)[0, :, : width // 2]


def _cosines(old: Tensor, new: Tensor) -> Tensor:
    return torch.nn.functional.normalize(old, dim=1) @ torch.nn.functional.normalize(new, dim=1).t()


def _coloured(values: Tensor) -> Tensor:
    """Numbers in [-1, 1], [rows, columns], as uint8 pixels [3, H, W]: blue below 0, red above."""
    share = values.clamp(-1, 1).abs().unsqueeze(0)
    ends = torch.where(values.unsqueeze(0) < 0, _colour(_BLUE), _colour(_RED))
    mixed = (1 - share) * _colour(_WHITE) + share * ends
    down, right = (max(_CELL_PX, least // size) for least, size in zip(_TILE_PX, values.shape, strict=True))
    return mixed.round().to(torch.uint8).repeat_interleave(down, 1).repeat_interleave(right, 2)


def _colour(rgb: Sequence[int]) -> Tensor:
    return torch.tensor(rgb, dtype=torch.float64).view(3, 1, 1)


def _computed(positions: object) -> ComputedPositions:
    assert isinstance(positions, ComputedPositions)
    return positions


def _px(size: int | tuple[int, int]) -> str:
    return f"for {size} px" if isinstance(size, int) else f"for {size[0]}x{size[1]} px"
