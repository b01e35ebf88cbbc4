"""tracking.json of a run folder: how each tracker names the run, what it missed, and which evaluations it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from open_ldm.core.files import read_json_object, write_json

FILE = "tracking.json"


@dataclass
class Sent:
    """What one tracker was sent.

    Attributes:
        id: Its own name of the run; empty before it first began.
        missing_from: The first step that failed to be sent; None where none did.
        evaluations: The evaluation numbers that it has.
    """

    id: str = ""
    missing_from: int | None = None
    evaluations: list[str] = field(default_factory=list)


def read_sent(folder: Path, kinds: Sequence[str], training: str) -> dict[str, Sent]:
    """Read what trackers of these kinds were sent of a run.

    Args:
        folder: The run folder.
        kinds: Of the trackers.
        training: What is trained; records of another training, which the folder once began, do not count. Empty: of any.

    Returns:
        By kind, also where nothing was sent yet.
    """
    content = read_json_object(folder / FILE)
    same = not training or content.get("training") == training
    known = content.get("trackers") if same else None
    return {kind: _sent(known.get(kind) if isinstance(known, dict) else None) for kind in kinds}


def write_sent(folder: Path, sent: dict[str, Sent], training: str) -> None:
    """Write what trackers were sent, beside what trackers that this process does not use were sent."""
    content = read_json_object(folder / FILE)
    training = training or str(content.get("training", ""))
    before = content.get("trackers") if content.get("training") == training else None
    kept = before if isinstance(before, dict) else {}
    write_json(folder / FILE, {"training": training, "trackers": {**kept, **{kind: asdict(one) for kind, one in sent.items()}}})


def _sent(content: object) -> Sent:
    if not isinstance(content, dict):
        return Sent()
    missing, evaluations = content.get("missing_from"), content.get("evaluations")
    return Sent(
        str(content.get("id", "")),
        missing if isinstance(missing, int) else None,
        [str(one) for one in evaluations] if isinstance(evaluations, list) else [],
    )
