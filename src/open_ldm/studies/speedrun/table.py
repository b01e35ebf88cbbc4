"""The public record: a row of a Markdown table for each recipe and data set."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path

from open_ldm.core.errors import ConfigError
from open_ldm.core.files import write_text
from open_ldm.core.hashes import hash_content
from open_ldm.core.others import MANY
from open_ldm.studies.speedrun.found import Found
from open_ldm.studies.speedrun.level import Level

BEGIN, END = "<!-- records: begin -->", "<!-- records: end -->"
_HEADER = (
    "| level of | recipe | seconds to the held-out loss | at | seconds to the FD | at | seeds | processor | date | commit |"
    " command |\n|---|---|---|---|---|---|---|---|---|---|---|"
)


def rows_of(found: Found) -> dict[str, str]:
    """Return the rows of a speedrun, by the first two cells, which name a row."""
    rows = {}
    level = level_in_words(found.level)
    for name, times in found.times.items():
        key = f"| {level} | {name} |"
        cells = []
        for metric in ("held_out_loss", "fid"):
            at = times[metric].at
            cells.append(times[metric].text())
            cells.append("not reached" if at is None else f"{at.value:.4g} ({at.low:.4g} to {at.high:.4g})")
        beside = f", beside {found.busy[name]:.1f} busy cores" if found.busy[name] > MANY else ""
        cells += [
            f"{found.seeds[0]} to {found.seeds[-1]}",
            f"{found.machine}{beside}",
            found.date[:10],
            found.commit[:12] or "-",
        ]
        cells.append(f"`{shlex.join(found.command)}`".replace("|", "\\|"))
        rows[key] = f"{key} {' | '.join(cells)} |"
    return rows


def level_in_words(level: Level) -> str:
    """Return 'demo `training.samples=9000`, level 1a2b3c4d': its recipe, what was changed, and a hash of all that sets it.

    Rows that name one level were measured against the same values, in the same way.
    """
    recipe, *changes = shlex.split(level.recipe)
    changed = f" `{shlex.join(changes)}`" if changes else ""
    return f"{Path(recipe).stem}{changed}, level {hash_content(asdict(level))[:8]}".replace("|", "&#124;")


def read_table(path: Path) -> str:
    """Read a Markdown file that records go into. Raises ConfigError where it is not there, or has no place for a table."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if BEGIN not in text or END not in text:
        problem = f"{path} has no place for records" if path.is_file() else f"there is no file {path} for records"
        raise ConfigError(problem, needed=f"a Markdown file with the lines {BEGIN} and {END}")
    return text


def update_table(path: Path, found: Found) -> None:
    """Put the rows of a speedrun into a Markdown file, between `BEGIN` and `END`; a row of the same name is replaced.

    Raises:
        ConfigError: As `read_table`.
    """
    text = read_table(path)
    head, rest = text.split(BEGIN, 1)
    inside, tail = rest.split(END, 1)
    rows = {_key(line): line for line in inside.strip().splitlines()[2:]}
    rows |= rows_of(found)
    write_text(path, f"{head}{BEGIN}\n{_HEADER}\n" + "\n".join(rows[key] for key in sorted(rows)) + f"\n{END}{tail}")


def _key(line: str) -> str:
    return "|".join(line.split("|")[:3]) + "|"
