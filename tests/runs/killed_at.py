"""Run by tests in a process of its own: trains a recipe again and again, killed (SIGKILL) at one place after the other.

python -m tests.runs.killed_at RECIPE OUT PLACE ... -- KEY=VALUE ...
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import tests.preloaded  # noqa: F401  (a fork imports nothing again)
from open_ldm.checkpoints.checkpoint import CheckpointFolder
from open_ldm.runs import stages
from open_ldm.runs.diffusion_recorder import DiffusionRecorder
from open_ldm.runs.recipe import load_recipe
from open_ldm.runs.saving import Saving
from open_ldm.runs.train import train
from open_ldm.training.trainer import Trainer


def kill(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def after(real: Callable[..., Any]) -> Callable[..., Any]:
    def done_and_killed(*given: Any, **named: Any) -> None:
        real(*given, **named)
        kill()

    return done_and_killed


@contextmanager
def beside(place: AbstractContextManager[Any]) -> Iterator[None]:
    """With saves in the background, as on an accelerator, of which the place is one."""
    with mock.patch.object(Saving, "beside", True), place:
        yield


PLACES: dict[str, Callable[[], Any]] = {
    "first receipt": lambda: mock.patch.object(DiffusionRecorder, "transferred", kill),
    "first save": lambda: mock.patch.object(CheckpointFolder, "save", kill),
    "rename": lambda: mock.patch.object(Path, "rename", kill),
    "saved": lambda: mock.patch.object(CheckpointFolder, "save", after(CheckpointFolder.save)),
    "first update": lambda: mock.patch.object(Trainer, "_apply", kill),
    "updated": lambda: mock.patch.object(Trainer, "update", after(Trainer.update)),
    "save beside": lambda: beside(mock.patch.object(Path, "rename", kill)),
    "saved beside": lambda: beside(mock.patch.object(CheckpointFolder, "save", after(CheckpointFolder.save))),
    "stage change": lambda: mock.patch.object(stages, "write_stages_report", kill),
}


def main(recipe: str, out: Path, places: list[str], overrides: list[str]) -> None:
    for place in places:
        child = os.fork()  # before anything was computed: no thread is lost
        if child == 0:
            with PLACES[place]():
                run(recipe, out, overrides)
            os._exit(0)
        ended = os.waitpid(child, 0)[1]
        assert os.WIFSIGNALED(ended) and os.WTERMSIG(ended) == signal.SIGKILL, f"{place} was never reached: {ended}"
    run(recipe, out, overrides)


def run(recipe: str, out: Path, overrides: list[str]) -> None:
    loaded = load_recipe(recipe, overrides)
    (stages.train_stages if loaded.stages else train)(loaded, out, silent=True)


if __name__ == "__main__":
    middle = sys.argv.index("--")
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:middle], sys.argv[middle + 1 :])
