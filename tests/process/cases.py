"""Schedules that the tests of process and sampling go through."""

from __future__ import annotations

from open_ldm.process.resolution import ResolutionConfig, rescaled
from open_ldm.process.schedules import (
    CosineSchedule,
    LinearSchedule,
    RectifiedFlowSchedule,
    ScaledLinearSchedule,
    Schedule,
    build_schedule,
)

SCHEDULES: dict[str, Schedule] = {
    "linear": build_schedule(LinearSchedule()),
    "linear_zero_terminal": build_schedule(LinearSchedule(zero_terminal_snr=True)),
    "linear_40_steps": build_schedule(LinearSchedule(steps=40, beta_start=0.0025, beta_end=0.5)),
    "scaled_linear": build_schedule(ScaledLinearSchedule()),
    "cosine": build_schedule(CosineSchedule()),
    "rectified_flow": build_schedule(RectifiedFlowSchedule()),
    "linear_rescaled": rescaled(build_schedule(LinearSchedule()), ResolutionConfig(from_px=256, to_px=384)),
    "rectified_flow_rescaled": rescaled(build_schedule(RectifiedFlowSchedule()), ResolutionConfig(from_px=256, to_px=384)),
}
