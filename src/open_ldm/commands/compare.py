"""`ldm compare RUN RUN ...`: what runs have in common, and where they differ."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from open_ldm.commands.differing import Differing, differing_settings, names_by_settings
from open_ldm.commands.evaluate.text import aligned
from open_ldm.core.counted import counted
from open_ldm.core.errors import ConfigError, cut
from open_ldm.evaluation.protocol import Difference, compare
from open_ldm.evaluation.stored import Stored, stored_results
from open_ldm.run_folder.folder import RunFolder
from open_ldm.run_folder.history import HELD_OUT, RunHistory, read_history

_MOST_SETTINGS = 12
_VALUE_LENGTH = 40
_OF_LOSSES = ("process", "autoencoder", "latent_stats", "data.source", "data.holdout", "data.transform", "held_out.pictures")
"""Where runs differ in these, their held-out losses are of different things."""
_HASH = re.compile(r"[0-9a-f]{16,}(/[0-9a-f]{16,})?")


@dataclass(frozen=True)
class ComparedRun:
    """One run: its name among the others, its history, and what was measured of it."""

    name: str
    path: Path
    history: RunHistory
    stored: Sequence[Stored]

    @property
    def parameters(self) -> int | None:
        """Of the model."""
        return self._number("start", "parameters")

    @property
    def samples_seen(self) -> int:
        """Of training."""
        return self.history.samples_seen

    @property
    def held_out_loss(self) -> float | None:
        """The newest that training itself measured."""
        event = self.history.last(HELD_OUT)
        return None if event is None else event.number("mean")

    def newest(self, name: str) -> Stored | None:
        """The newest value of a name, of whatever protocol."""
        return next((one for one in reversed(self.stored) if one.result.estimate.name == name), None)

    def _number(self, event: str, field: str) -> int | None:
        found = self.history.last(event)
        value = None if found is None else found.number(field)
        return None if value is None else int(value)


@dataclass(frozen=True)
class Row:
    """Values of one name and protocol, one for each run (None: not measured so); `differences` from the first run that has
    one."""

    name: str
    protocol: str
    values: tuple[Stored | None, ...]
    differences: tuple[Difference | None, ...]

    def cells(self) -> list[str]:
        """For people: value and interval; a star where the difference from the first is clear."""
        return [_cell(value, difference) for value, difference in zip(self.values, self.differences, strict=True)]


@dataclass(frozen=True)
class Comparison:
    """`differing`: the settings that differ between the recipes; `rows`: only values of one protocol stand side by side;
    `apart`: what of the same name is not comparable, and why; `notes`: values that are older than the run."""

    runs: Sequence[ComparedRun]
    differing: Sequence[Differing]
    rows: Sequence[Row]
    apart: Sequence[str]
    notes: Sequence[str]

    def facts(self) -> list[list[str]]:
        """Rows about the runs themselves."""
        return [
            ["samples seen", *(f"{run.samples_seen:,}" for run in self.runs)],
            ["parameters", *(_or_dash(run.parameters, ",") for run in self.runs)],
            ["held-out loss in training", *(_or_dash(run.held_out_loss, ".4g") for run in self.runs)],
        ]

    def settings(self) -> list[list[str]]:
        """The settings that differ, with a header."""
        rows = [[one.setting, *(cut(value, _VALUE_LENGTH) for value in one.values)] for one in self.differing]
        more = (
            [[f"{len(rows) - _MOST_SETTINGS} more, in the page", *("" for _ in self.runs)]]
            if len(rows) > _MOST_SETTINGS
            else []
        )
        said = "settings that differ" if rows else "no setting differs"
        return [[said, *(run.name for run in self.runs)], *rows[:_MOST_SETTINGS], *more]

    def table(self) -> list[list[str]]:
        """Facts, then values, with a header."""
        values = [[f"{row.name} ({row.protocol})", *row.cells()] for row in self.rows]
        return [["", *(run.name for run in self.runs)], *self.facts(), *values]

    def text(self) -> str:
        """For the terminal: the settings that differ first, then what was measured."""
        lines = [*aligned(self.settings()), "", *aligned(self.table())]
        if any(difference and difference.clear for row in self.rows for difference in row.differences):
            lines.append("* differs clearly from the first run's: the interval of the difference does not hold 0")
        lines += [f"not compared: {text}" for text in self.apart]
        return "\n".join([*lines, *(f"note: {text}" for text in self.notes)])

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "runs": [_run_json(run) for run in self.runs],
            "differing": {one.setting: list(one.values) for one in self.differing},
            "values": [
                {
                    "name": row.name,
                    "protocol": row.protocol,
                    "values": [None if value is None else value.to_json() for value in row.values],
                }
                for row in self.rows
            ],
            "not_compared": list(self.apart),
            "notes": list(self.notes),
        }


def compare_runs(paths: Sequence[Path]) -> Comparison:
    """Read the run folders. Raises ConfigError for fewer than two, a folder that is no run, and a damaged evaluation.json."""
    if len(paths) < 2:
        raise ConfigError(
            f"{counted(len(paths), 'run folder was', 'run folders were')} given", needed="at least two run folders"
        )
    runs = [_read(path, name) for path, name in zip(paths, names_of(paths), strict=True)]
    differing = differing_settings([run.history.config for run in runs])
    names = names_by_settings([run.name for run in runs], differing)
    runs = [replace(run, name=name) for run, name in zip(runs, names, strict=True)]
    return Comparison(runs, differing, _rows(runs), [*_losses_apart(runs), *_apart(runs)], _old(runs))


def names_of(paths: Sequence[Path]) -> list[str]:
    """Return folder names, with as much of the path as tells them apart."""
    resolved = [path.resolve() for path in paths]
    if len(set(resolved)) < len(resolved):
        raise ConfigError("the same run was given twice", needed="different run folders")
    for depth in range(1, max(len(path.parts) for path in resolved) + 1):
        names = ["/".join(path.parts[-depth:]) for path in resolved]
        if len(set(names)) == len(names):
            break
    return names


def _read(path: Path, name: str) -> ComparedRun:
    if not (path / "config.yaml").is_file() and not (path / "stages").is_dir():
        raise ConfigError(f"{path} is not a run folder", needed="a folder made by ldm train")
    last = RunFolder(path).parts[-1].path
    return ComparedRun(name, path, read_history(last), stored_results(path) or stored_results(last))


def _rows(runs: Sequence[ComparedRun]) -> list[Row]:
    """One row for each name and protocol that occurs, in the order of the first run that has it."""
    wanted = dict.fromkeys((one.result.estimate.name, one.result.protocol.id) for run in runs for one in run.stored)
    order = list(dict.fromkeys(name for name, _ in wanted))
    rows = []
    for name, protocol in sorted(wanted, key=lambda each: order.index(each[0])):
        values = [_of_protocol(run, name, protocol) for run in runs]
        first = next(value for value in values if value is not None)
        differences = [None if value is None or value is first else compare(first.result, value.result) for value in values]
        rows.append(Row(name, protocol, tuple(values), tuple(differences)))
    return rows


def _of_protocol(run: ComparedRun, name: str, protocol: str) -> Stored | None:
    same = (one for one in run.stored if (one.result.estimate.name, one.result.protocol.id) == (name, protocol))
    return next(same, None)


def _apart(runs: Sequence[ComparedRun]) -> list[str]:
    """For each name: how the newest value of a run differs from the first run's, where no protocol is shared."""
    names = dict.fromkeys(one.result.estimate.name for run in runs for one in run.stored)
    found = []
    for name in names:
        first, *others = [run for run in runs if run.newest(name) is not None]
        for other in others:
            if _protocols(first, name) & _protocols(other, name):
                continue
            one, two = first.newest(name), other.newest(name)
            if one is not None and two is not None:
                differing = one.result.protocol.differences(two.result.protocol)
                found.append(f"{name} of {first.name} and {other.name}: {_HASH.sub(_shortened, '; '.join(differing))}")
    return found


def _losses_apart(runs: Sequence[ComparedRun]) -> list[str]:
    """For each run whose training measured held-out losses: why they are none beside those of the first such run."""
    measured = [run for run in runs if run.held_out_loss is not None]
    found = []
    for other in measured[1:]:
        differing = [
            f"{one.setting}: {cut(one.values[0], _VALUE_LENGTH)} against {cut(one.values[1], _VALUE_LENGTH)}"
            for one in differing_settings([measured[0].history.config, other.history.config])
            if one.setting.startswith(_OF_LOSSES)
        ]
        if differing:
            found.append(f"held-out loss in training of {measured[0].name} and {other.name}: {'; '.join(differing)}")
    return found


def _old(runs: Sequence[ComparedRun]) -> list[str]:
    """Runs that went on after they were measured."""
    found = []
    for run in runs:
        earlier = sorted({one.samples_seen for one in run.stored if one.samples_seen is not None} - {run.samples_seen})
        if earlier:
            found.append(
                f"{run.name} was measured at {', '.join(f'{seen:,}' for seen in earlier)} samples seen, before its end"
            )
    return found


def _protocols(run: ComparedRun, name: str) -> set[str]:
    return {one.result.protocol.id for one in run.stored if one.result.estimate.name == name}


def _run_json(run: ComparedRun) -> Mapping[str, Any]:
    return {
        "name": run.name,
        "path": str(run.path),
        "samples_seen": run.samples_seen,
        "parameters": run.parameters,
        "held_out_loss": run.held_out_loss,
    }


def _cell(value: Stored | None, difference: Difference | None) -> str:
    if value is None:
        return "–"
    one = value.result.estimate
    star = " *" if difference is not None and difference.clear else ""
    return f"{one.value:.4g} [{one.low:.4g}, {one.high:.4g}]{star}"


def _shortened(found: re.Match[str]) -> str:
    return f"{found[0][:8]}…"


def _or_dash(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
