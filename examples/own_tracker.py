"""A tracker of your own, in one file: the curves of a training go to MLflow.

pip install mlflow && python examples/own_tracker.py

A recipe may name any tracker whose class is defined before the recipe is loaded: here in the same file, or in a module of yours
that the program imports. What is sent, when, and what happens after a kill is the same as for the trackers of the package;
`ldm sample` and `ldm evaluate` read such a run without knowing the class.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import mlflow
from pydantic import PrivateAttr

import open_ldm as ldm
from open_ldm.core.config import flattened
from open_ldm.tracking import TrackedRun, Tracker

OUT = Path(os.environ.get("OUT", "runs/own-tracker"))
SETTINGS = os.environ.get("SETTINGS", "").split()  # for a first try: SETTINGS="training.samples=3200"


class Mlflow(Tracker):
    """Sends numbers, previews, the recipe and the git commit to an MLflow server or folder."""

    kind: Literal["mlflow"] = "mlflow"
    uri: str = "sqlite:///mlflow.db"
    experiment: str = "open-ldm"
    _id: str = PrivateAttr("")

    def begin(self, run: TrackedRun) -> str:
        """Open a run, or the one that an earlier process of the same training had opened."""
        mlflow.set_tracking_uri(self.uri)
        mlflow.set_experiment(self.experiment)
        self._id = mlflow.start_run(run_id=run.id or None, run_name=run.name).info.run_id
        if not run.again:
            mlflow.log_params({name: str(value)[:500] for name, value in flattened(dict(run.recipe)).items()})
            mlflow.set_tag("commit", run.commit)
        return self._id

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Send the numbers of one step."""
        mlflow.log_metrics(dict(values), step=step)

    def picture(self, step: int, name: str, file: Path, captions: Sequence[str]) -> None:
        """Send a PNG file."""
        mlflow.log_artifact(str(file), name)

    def end(self, code: int | None) -> None:
        """Close the run."""
        mlflow.end_run("FINISHED" if code == 0 else "KILLED" if code == 75 else "FAILED")


def main() -> None:
    """Train the demo's model, tracked."""
    ldm.train("demo", {"name": "own-tracker", "track": [{"kind": "mlflow"}]}, *SETTINGS, out=OUT)


if __name__ == "__main__":
    main()
