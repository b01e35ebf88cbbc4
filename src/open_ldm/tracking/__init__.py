"""Trackers: TensorBoard, W&B, Trackio and those of a user's own program, all fed by the event log of a run.

A recipe lists them: `track: [tensorboard, {kind: wandb, mode: offline}]`. None is needed, and none moves a number of a run.
"""

from typing import Annotated

from pydantic import AfterValidator, Field, SerializeAsAny, WrapValidator

from open_ldm.tracking.base import TrackedRun, Tracker
from open_ldm.tracking.own import check_trackers, read_tracker
from open_ldm.tracking.tensorboard import TensorBoard
from open_ldm.tracking.trackio import Trackio
from open_ldm.tracking.wandb import Wandb

Packaged = TensorBoard | Wandb | Trackio


def _each_once(trackers: tuple[Tracker, ...]) -> tuple[Tracker, ...]:
    kinds = [tracker.kind for tracker in trackers]
    if twice := [kind for kind in kinds if kinds.count(kind) > 1]:
        raise ValueError(f"{twice[0]} is listed twice")
    return trackers


TrackerConfig = SerializeAsAny[Annotated[Packaged, Field(discriminator="kind"), WrapValidator(read_tracker)]]
Trackers = Annotated[tuple[TrackerConfig, ...], AfterValidator(_each_once)]

__all__ = ["TrackedRun", "Tracker", "TrackerConfig", "Trackers", "check_trackers"]
