"""tracking.json of a run folder: how each tracker names the run, what it missed, and which evaluations it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from open_ldm.core.files import read_json_object, write_json

FILE = "tracking.json"


@dataclass
class Sent:
    """What one tracker was sent.

    Attributes:
        id: Its own name of the run; empty before it first began.
        until: The last step of each curve that it was sent, by name, or one step for all of them, while it lags behind the
            event log; else None.
        evaluations: The evaluation numbers that it has.
    """

    id: str = ""
    until: Mapping[str, int] | int | None = None
    evaluations: list[str] = field(default_factory=list)


def read_sent(folder: Path, kinds: Sequence[str], training: str) -> dict[str, Sent]:
    """Read what trackers of these kinds were sent of a run.

    Args:
        folder: The run folder.
        kinds: Of the trackers.
        training: What is trained; records of another training, which the folder once began, do not count. Empty: of any.

    Returns:
        By kind: of these, also where nothing was sent yet, and of those that the run had before.
    """
    content = read_json_object(folder / FILE)
    same = not training or content.get("training") == training
    known = content.get("trackers") if same else None
    known = known if isinstance(known, dict) else {}
    return {kind: _sent(known.get(kind)) for kind in dict.fromkeys([*kinds, *known])}


def write_sent(folder: Path, sent: dict[str, Sent], training: str) -> None:
    """Write what trackers were sent, those too that this process does not use."""
    training = training or str(read_json_object(folder / FILE).get("training", ""))
    write_json(folder / FILE, {"training": training, "trackers": {kind: asdict(one) for kind, one in sent.items()}})


def _sent(content: object) -> Sent:
    if not isinstance(content, dict):
        return Sent()
    evaluations = content.get("evaluations")
    return Sent(
        str(content.get("id", "")),
        _until(content),
        [str(one) for one in evaluations] if isinstance(evaluations, list) else [],
    )


def _until(content: Mapping[str, object]) -> Mapping[str, int] | int | None:
    until, missing = content.get("until"), content.get("missing_from")
    if isinstance(until, dict):
        return {str(name): step for name, step in until.items() if isinstance(step, int)}
    if until is None and isinstance(missing, int):  # what earlier versions wrote: the first step that failed
        return missing - 1
    return until if isinstance(until, int) else None
