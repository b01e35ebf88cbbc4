"""`ldm doctor`."""

from __future__ import annotations

from pathlib import Path

from open_ldm.cli.options import Json, Out, print_json


def doctor(out: Out = None, as_json: Json = False) -> int:
    """What this machine has for training, what would be slow or wrong on it, and what helps.

    Ends with 1 where something is wrong.
    """
    from open_ldm.commands.doctor import examine

    found = examine(out or Path("runs"))
    if as_json:
        print_json({"findings": [finding.to_json() for finding in found]})
    for finding in [] if as_json else found:
        print(f"{finding.level:<6}{finding.about}: {finding.found}")
        if finding.fix:
            print(f"      fix: {finding.fix}" if finding.level in ("slow", "wrong") else f"      {finding.fix}")
    return int(any(finding.level == "wrong" for finding in found))
