"""evaluation.json: what was measured of a run, each protocol's newest value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from open_ldm.core.errors import ConfigError
from open_ldm.core.files import write_json
from open_ldm.core.plain_data import parse_json
from open_ldm.evaluation.protocol import Result

FILE = "evaluation.json"
_BY_CONTROL = ("content_change", "coarse_change", "control_effect")
"""Entries of which every control has its own, so that one control's does not replace another's."""


@dataclass(frozen=True)
class Stored:
    """A result as it is stored.

    Attributes:
        result: The value and the protocol it was measured by.
        samples_seen: By the model; None for pictures of no known model.
        measured: When, in ISO 8601.
    """

    result: Result
    samples_seen: int | None
    measured: str

    def to_json(self) -> dict[str, Any]:
        """Return plain data; `from_json` reads it back."""
        return {**self.result.to_json(), "samples_seen": self.samples_seen, "measured": self.measured}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Stored:
        """Read what `to_json` wrote. Raises ConfigError for anything else."""
        return cls(Result.from_json(content), content.get("samples_seen"), str(content.get("measured", "")))


def stored_results(folder: Path) -> list[Stored]:
    """Read the results of a folder's evaluation.json; there are none where there is no such file.

    Raises:
        ConfigError: The file is damaged.
    """
    return _read(folder)[0]


def _read(folder: Path) -> tuple[list[Stored], dict[str, Any]]:
    """The results of a folder's evaluation.json, and its further entries. Raises ConfigError as `stored_results`."""
    path = folder / FILE
    if not path.is_file():
        return [], {}
    try:
        content = parse_json(path.read_text(encoding="utf-8"), finite=False)
        more = {name: value for name, value in content.items() if name not in ("results", "refused")}
        return [Stored.from_json(one) for one in content["results"]], more
    except ConfigError as error:
        raise ConfigError(f"{path} cannot be read: {error.problem}", fix=error.fix) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} cannot be read ({type(error).__name__})", fix="delete the file and measure again") from error


def store(
    folder: Path, results: Sequence[Result], samples_seen: int | None, refused: Mapping[str, str], details: Mapping[str, Any]
) -> Path:
    """Write evaluation.json, whole or not at all; a value of the same name and protocol is replaced, others stay.

    Args:
        folder: Where the file lies.
        results: What was measured now.
        samples_seen: By the model; None for pictures of no known model.
        refused: {metric: reason} of this evaluation.
        details: Further entries of the file, of this evaluation. Earlier ones that it has not stay; of what is kept for each
            control, also those of other controls.

    Returns:
        The file.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    new = [Stored(result, samples_seen, now) for result in results]
    taken = {(one.estimate.name, one.protocol.id) for one in results}
    earlier, more = _read(folder)
    kept = [one for one in earlier if (one.result.estimate.name, one.result.protocol.id) not in taken]
    for name in _BY_CONTROL:
        if name in details:
            more[name] = {**more.get(name, {}), **details[name]}
    more |= {name: value for name, value in details.items() if name not in _BY_CONTROL}
    content = {"results": [one.to_json() for one in [*kept, *new]], "refused": dict(refused), **more}
    write_json(folder / FILE, content)
    return folder / FILE
