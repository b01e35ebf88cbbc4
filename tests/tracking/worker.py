"""Run by tests in a process of its own: a run's events, written to its log and sent to trackers, interrupted once on the way.

python -m tests.tracking.worker FOLDER killed|failed KIND ...

"killed": the first process kills itself. "failed": in the first process each tracker takes the loss of step 16 and fails at
its preview, is sent nothing more, and the process ends by itself. The last line it writes is what Trackio keeps of the run.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import TypeAdapter

from open_ldm.core.events import Event, EventLog
from open_ldm.evaluation.bootstrap import Estimate
from open_ldm.evaluation.protocol import MeasurementProtocol, Result
from open_ldm.evaluation.stored import store
from open_ldm.tracking import TrackedRun, Trackers
from open_ldm.tracking.feed import Feed
from open_ldm.tracking.sent import read_sent

EVERY = 4
RESULT = Result(Estimate("fid", 12.5, 11.0, 14.0, 100), MeasurementProtocol({"metric": "fid"}))


def loss(step: int) -> float:
    """What a training gives at a step, however often it comes there."""
    return 1 / (1 + step)


def main(folder: Path, first: int, last: int, how: str, kinds: list[str]) -> None:
    given = [{"kind": kind, **({"mode": "offline"} if kind == "wandb" else {})} for kind in kinds]
    trackers = TypeAdapter(Trackers).validate_python(given)
    if how == "fail":
        for tracker in trackers:
            object.__setattr__(tracker, "picture", _failing)
    feed = Feed(trackers, folder, lambda problem: print(problem, flush=True))
    log = EventLog(folder / "events.jsonl")

    def event(name: str, step: int, **fields: Any) -> Event:
        log.write(name, samples_seen=step, **fields)
        return Event(name, "", step, fields)

    now = event("resume" if first else "start", first, fingerprint={"recipe": "r", "data": "d"})
    for line in feed.begin(TrackedRun("a run", folder, "", {"training": {"samples": last}}, "c0ffee"), now):
        print(line, flush=True)
    for step in range(first + EVERY, last + 1, EVERY):
        feed.event(event("train", step, loss=loss(step), grad_norm=float("nan"), learning_rate=0.5))
        if step % 16 == 0:
            file = folder / "samples" / f"{step}.png"
            file.parent.mkdir(exist_ok=True)
            Image.new("RGB", (8, 8), (step, 0, 0)).save(file)
            feed.event(event("preview", step, file=f"samples/{step}.png", prompts=["a red circle"]))
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    feed.end(0)


def _failing(*_: Any) -> None:
    raise TimeoutError("the server is asleep")


def interrupted_and_gone_on(folder: Path, how: str, kinds: list[str]) -> None:
    """Work to step 24 in a fork that is interrupted; then go on from a checkpoint at 16, once something was measured there."""
    for kind in kinds:
        importlib.import_module(kind)  # once, for both of its processes
    child = os.fork()  # before anything was computed: no thread is lost
    if child == 0:
        main(folder, 0, 24, "kill" if how == "killed" else "fail", kinds)
        sys.exit(0)
    ended = os.waitpid(child, 0)[1]
    assert (os.WIFSIGNALED(ended) and os.WTERMSIG(ended) == signal.SIGKILL) if how == "killed" else ended == 0
    store(folder, [RESULT], 16, {}, {})
    main(folder, 16, 48, "end", kinds)
    if "trackio" in kinds:
        print(json.dumps(trackio_rows(read_sent(folder, kinds, "")["trackio"].id), default=str), flush=True)


def trackio_rows(run: str) -> list[dict[str, Any]]:
    """Read by Trackio's own reader, in the process that wrote: Trackio finds its folder when it is imported."""
    from trackio.sqlite_storage import SQLiteStorage

    return [dict(row) for row in SQLiteStorage.get_logs("open-ldm", run)]


if __name__ == "__main__":
    interrupted_and_gone_on(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
