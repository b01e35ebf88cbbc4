"""What a study would cost: every arm built on the meta device and counted, before anything is trained."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from open_ldm.commands.dry_run import DryRun, dry_run
from open_ldm.studies.begun import as_study_begun
from open_ldm.studies.page import PAPER_NOTE
from open_ldm.studies.run import Choice, Job, jobs_of
from open_ldm.studies.study import Study

SUSTAINED_TFLOPS = 400.0
"""Of one GPU, in 10^12 floating-point operations a second: what an H100 reaches in bf16 at 40 % of its peak."""
_DECIDES_THE_MODEL = {"data", "autoencoder", "conditioning", "process", "denoiser", "init_from"}
_PASSES = 3
"""A backward pass costs two forward passes."""


@dataclass(frozen=True)
class ArmCost:
    """One training. `gmacs`: of one forward pass of one picture; `flops`: of all of training, 2 a multiply-add."""

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
        return self.flops / (SUSTAINED_TFLOPS * 1e12) / 3600


@dataclass(frozen=True)
class Cost:
    """Of a study; arms that share a training count once."""

    study: str
    scale: str
    arms: tuple[ArmCost, ...]

    def text(self) -> str:
        """A table."""
        lines = [f"study {self.study}, scale {self.scale}{': ' + PAPER_NOTE if self.scale == 'paper' else ''}"]
        for each in self.arms:
            lines.append(
                f"  {each.setting}, {each.arm}: {each.runs} x {each.samples:,} samples, {each.parameters:,} parameters, "
                f"{each.gmacs:.2f} GMACs a picture, {each.flops:.2e} FLOPs, {each.gpu_hours:,.1f} GPU hours"
            )
        total = sum(each.flops for each in self.arms)
        hours = sum(each.gpu_hours for each in self.arms)
        lines.append(
            f"  in all {total:.2e} FLOPs of training, {hours:,.1f} GPU hours at {SUSTAINED_TFLOPS:g} TFLOP/s sustained; "
            "sampling, autoencoder and text encoder come on top"
        )
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        arms = [{**asdict(each), "flops": each.flops, "gpu_hours": each.gpu_hours} for each in self.arms]
        return {"study": self.study, "scale": self.scale, "arms": arms, "sustained_tflops": SUSTAINED_TFLOPS}


def cost_of(study: Study, scale: str, out: Path, choice: Choice) -> Cost:
    """Build every training of a study once. Raises what building raises."""
    arms: list[ArmCost] = []
    counted: dict[str, DryRun] = {}
    study, _ = as_study_begun(study, scale, out)
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
            name = first.run.name.removesuffix("-seed0")
            arms.append(ArmCost(setting.name, name, same, built.parameters, built.gmacs, first.recipe.training.samples))
    return Cost(study.name, scale, tuple(arms))
