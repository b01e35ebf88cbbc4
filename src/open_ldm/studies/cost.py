"""What a study would cost: every arm built on the meta device and counted, before anything is trained."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from open_ldm.commands.dry_run import DryRun, dry_run
from open_ldm.commands.plan.speed import ASSUMED_SHARE, assumed_throughput
from open_ldm.core.device import set_up_machine
from open_ldm.core.events import duration
from open_ldm.runs.recipe import Recipe
from open_ldm.studies.begun import as_study_begun
from open_ldm.studies.changes import require_arms_differ
from open_ldm.studies.choice import Choice
from open_ldm.studies.jobs import Job, jobs_of
from open_ldm.studies.page import PAPER_NOTE
from open_ldm.studies.study import Study

SUSTAINED_TFLOPS = 400.0
"""Of one GPU, in 10^12 floating-point operations a second: what an H100 reaches in bf16 at 40 % of its peak."""
_DECIDES_THE_MODEL = {"data", "autoencoder", "conditioning", "process", "denoiser", "init_from"}
_PASSES = 3
"""A backward pass costs two forward passes."""


@dataclass(frozen=True)
class ArmCost:
    """One training. `gmacs`: of the forward passes of a training step for one picture; `flops`: of all training, 2 a MAC."""

    setting: str
    arm: str
    runs: int
    parameters: int
    gmacs: float
    samples: int

    @property
    def flops(self) -> float:
        """Of all seeds together."""
        return self.runs * self.samples * self.gmacs * 1e9 * 2 * _PASSES

    @property
    def gpu_hours(self) -> float:
        """At the sustained throughput."""
        return _gpu_hours(self.flops)


@dataclass(frozen=True)
class Throughput:
    """Floating-point operations a second that a training is taken to reach on this machine, and which that is."""

    flops: float
    machine: str


@dataclass(frozen=True)
class Cost:
    """Of a study; arms that share a training count once. `here`: None at the scale of the paper, told in hours of a GPU."""

    study: str
    scale: str
    arms: tuple[ArmCost, ...]
    here: Throughput | None = None

    @property
    def flops(self) -> float:
        """Of all trainings."""
        return sum(each.flops for each in self.arms)

    def text(self) -> str:
        """A table."""
        if not self.arms:
            return f"study {self.study}: nothing is trained"
        lines = [f"study {self.study}, scale {self.scale}{': ' + PAPER_NOTE if self.scale == 'paper' else ''}"]
        for each in self.arms:
            lines.append(
                f"  {each.setting}, {each.arm}: {each.runs} x {each.samples:,} samples, {each.parameters:,} parameters, "
                f"{each.gmacs:.2f} GMACs a picture, {each.flops:.2e} FLOPs, {self._time(each.flops)}"
            )
        lines.append(
            f"  in all {self.flops:.2e} FLOPs of training, {self._time(self.flops)} at {self._speed()}; "
            "sampling, autoencoder and text encoder come on top"
        )
        return "\n".join(lines)

    def _time(self, flops: float) -> str:
        if self.here is None:
            return f"{_gpu_hours(flops):,.1f} GPU hours"
        return f"about {duration(flops / self.here.flops)}"

    def _speed(self) -> str:
        if self.here is None:
            return f"{SUSTAINED_TFLOPS:g} TFLOP/s sustained"
        return f"{self.here.flops / 1e9:,.0f} GFLOP/s, {ASSUMED_SHARE:.0%} of the matrix speed of {self.here.machine}"

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        arms = [{**asdict(each), "flops": each.flops, **self._took(each.flops)} for each in self.arms]
        content: dict[str, Any] = {"study": self.study, "scale": self.scale, "arms": arms}
        if self.here is None:
            return {**content, "sustained_tflops": SUSTAINED_TFLOPS}
        speed = {"flops_per_second": self.here.flops, "machine": self.here.machine}
        return {**content, **self._took(self.flops), **speed}

    def _took(self, flops: float) -> dict[str, float]:
        if self.here is None:
            return {"gpu_hours": _gpu_hours(flops)}
        return {"seconds": round(flops / self.here.flops, 1)}


def _gpu_hours(flops: float) -> float:
    return flops / (SUSTAINED_TFLOPS * 1e12) / 3600


def cost_of(study: Study, scale: str, out: Path, choice: Choice) -> Cost:
    """Build every training of a study once, and time matrix products here for a scale that is run here.

    Raises:
        OpenLdmError: What building raises; or a training's device is not here; or a change of the user's would take away what
            arms differ in.
    """
    arms: list[ArmCost] = []
    here: Throughput | None = None
    counted: dict[str, DryRun] = {}
    study, _ = as_study_begun(study, scale, out)
    require_arms_differ(study, scale, choice.overrides)
    for setting in study.settings(scale):
        runs: dict[Path, Job] = {}
        for job in jobs_of(study, setting, out, choice):
            for each in (job.start, job):
                if each is not None:
                    runs.setdefault(each.run, each)
        for first in [job for job in runs.values() if job.seed == 0]:
            same = sum(job.run.name.rsplit("-seed", 1)[0] == first.run.name.rsplit("-seed", 1)[0] for job in runs.values())
            key = first.recipe.model_dump_json(include=_DECIDES_THE_MODEL)
            if key not in counted:
                counted[key] = dry_run(first.recipe)
            built = counted[key]
            if here is None and scale != "paper":
                here = _throughput_here(first.recipe)
            name = first.run.name.removesuffix("-seed0")
            arms.append(
                ArmCost(setting.name, name, same, built.parameters, built.training_gmacs, first.recipe.training.samples)
            )
    return Cost(study.name, scale, tuple(arms), here)


def _throughput_here(recipe: Recipe) -> Throughput:
    machine = set_up_machine(recipe.training.device, recipe.training.dtype, scaled=True)
    flops = assumed_throughput(machine)
    assert flops is not None  # since it is measured
    return Throughput(flops, machine.sentence)
