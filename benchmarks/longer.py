"""A finished training made longer: does the held-out loss fall again, and does a kill in the longer part change anything?

    python benchmarks/longer.py photos-dit --first 256 --then 512 KEY=VALUE ...

The recipe is trained to `--first` samples and copied. One copy goes on to `--then` in one go. The other is killed (SIGKILL)
when it has seen three quarters of the new part, and started again.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from open_ldm.core.events import effective_events, read_events


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, kill, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("changes", nargs="*")
    parser.add_argument("--first", type=int, default=256)
    parser.add_argument("--then", type=int, default=512)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="longer-"))

    def train(out: Path, samples: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "open_ldm", "train", given.recipe, *given.changes, f"training.samples={samples}"]
        return subprocess.Popen([*command, "--out", str(out)], stdout=subprocess.DEVNULL)

    whole, broken = folder / "whole", folder / "broken"
    assert train(whole, given.first).wait() == 0
    shutil.copytree(whole, broken)
    assert train(whole, given.then).wait() == 0
    process = train(broken, given.then)
    while _seen(broken) < given.first + 3 * (given.then - given.first) // 4 and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    killed_at = _seen(broken)
    assert train(broken, given.then).wait() == 0
    events = effective_events(read_events(whole / "events.jsonl"))
    resumed = [event for event in read_events(broken / "events.jsonl") if event.name == "resume"]
    tensors, others = _hashes(whole), _hashes(broken)
    found: dict[str, Any] = {
        "held_out": {event.samples_seen: event.number("mean") for event in events if event.name == "held_out"},
        "lengths": [event.fields["message"] for event in events if event.name == "length"],
        "killed_at": killed_at,
        "bitwise": resumed[-1].text("bitwise"),
        "losses": len(_losses(whole)),
        "losses_that_differ": sum(one != other for one, other in zip(_losses(whole), _losses(broken), strict=True)),
        "files_that_differ": sum(tensors[name] != others[name] for name in tensors),
    }
    print(json.dumps(found, indent=1))
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1))
    shutil.rmtree(folder)


def _losses(run: Path) -> list[float | None]:
    return [event.number("loss") for event in effective_events(read_events(run / "events.jsonl")) if event.name == "train"]


def _seen(run: Path) -> int:
    return max(
        (event.samples_seen for event in read_events(run / "events.jsonl") if event.name in ("train", "resume")), default=0
    )


def _hashes(run: Path) -> dict[str, str]:
    newest = max((run / "checkpoints").iterdir())
    return {name: each["sha256"] for name, each in json.loads((newest / "MANIFEST.json").read_text())["files"].items()}


if __name__ == "__main__":
    main()
