"""Figures 3, 4 and A1: plots that need no training."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from open_ldm.controls.gate import ConstantGate, CosinePowerGate, Gate, PowerCosineGate, gamma
from open_ldm.denoisers.blocks.positions import GridPositions, ResampledPositions, coordinates
from open_ldm.pages.charts import Plot, Series
from open_ldm.process.reference_clock import reference_time
from open_ldm.process.resolution import ResolutionConfig, rescaled
from open_ldm.process.schedules import (
    CosineSchedule,
    LinearSchedule,
    RectifiedFlowSchedule,
    ScaledLinearSchedule,
    ScheduleConfig,
    build_schedule,
)
from open_ldm.studies.study import Figure, Study

_TIMES = torch.linspace(0.001, 0.999, 200, dtype=torch.float64)
_TIME_TITLE = "t (0 = data, 1 = noise)"
_NOISE_TITLE = "log-SNR (left noise, right data)"
SCHEDULE_KINDS: dict[str, ScheduleConfig] = {
    "linear": LinearSchedule(),
    "scaled linear": ScaledLinearSchedule(),
    "cosine": CosineSchedule(),
    "rectified flow": RectifiedFlowSchedule(),
}


def gates() -> Sequence[Figure]:
    """Figure 3, over the time and over the noise level, and what one alpha means on either clock."""
    named: dict[str, Gate] = {"constant": ConstantGate(), "(1 + cos)/2": CosinePowerGate()}
    named |= {f"alpha = {alpha}": PowerCosineGate(alpha=alpha) for alpha in (1, 2, 4, 8)}
    reference = build_schedule(LinearSchedule())
    over_time = [Series(name, _TIMES.tolist(), gamma(gate, _TIMES).tolist()) for name, gate in named.items()]
    over_noise = [Series(name, reference.log_snr(_TIMES).tolist(), each.y) for name, each in zip(named, over_time, strict=True)]
    bare, noise = [], []
    for name, kind in SCHEDULE_KINDS.items():
        schedule = build_schedule(kind)
        log_snr = schedule.log_snr(_TIMES).tolist()
        bare.append(Series(name, log_snr, gamma(PowerCosineGate(), _TIMES).tolist()))
        noise.append(Series(name, log_snr, gamma(PowerCosineGate(), reference_time(schedule, _TIMES)).tolist()))
    return [
        Figure(
            "How strongly a control acts along the way, under the linear table.", _gate_plot("gates", _TIME_TITLE, over_time)
        ),
        Figure("The same over the noise level.", _gate_plot("gates over the noise level", _NOISE_TITLE, over_noise)),
        Figure("Alpha = 8 on clock: time, another gate under every schedule.", _gate_plot("clock time", _NOISE_TITLE, bare)),
        Figure("Alpha = 8 on clock: noise_level, one gate.", _gate_plot("clock noise level", _NOISE_TITLE, noise)),
    ]


def _gate_plot(title: str, x_title: str, series: Sequence[Series]) -> Plot:
    return Plot(title, x_title, "γ", series, from_zero=True)


def schedules() -> Sequence[Figure]:
    """Figure A1: log-SNR over time, as published and for pictures of twice the side."""
    plain, moved = [], []
    for name, kind in SCHEDULE_KINDS.items():
        schedule = build_schedule(kind)
        plain.append(Series(name, _TIMES.tolist(), schedule.log_snr(_TIMES).tolist()))
        if name in ("scaled linear", "rectified flow"):
            for px in (256, 512, 1024):
                shifted = rescaled(schedule, None if px == 256 else ResolutionConfig(from_px=256, to_px=px))
                moved.append(Series(f"{name}, {px} px", _TIMES.tolist(), shifted.log_snr(_TIMES).tolist()))
    return [
        Figure("Uncertainty over time.", Plot("schedules", _TIME_TITLE, "log-SNR", plain)),
        Figure("The same uncertainty for larger pictures.", Plot("rescaled schedules", _TIME_TITLE, "log-SNR", moved)),
    ]


def positions() -> Sequence[Figure]:
    """Figure 4: coordinates of the tokens of one row."""
    small, large = (16, 16), (32, 32)
    named: dict[str, tuple[GridPositions | ResampledPositions, tuple[int, int]]] = {
        "16 tokens a side": (GridPositions(), small),
        "32, extrapolated": (GridPositions(), large),
        "32, resampled": (ResampledPositions(rows=16, columns=16), large),
    }
    series = []
    for name, (kind, grid) in named.items():
        _, columns = coordinates(kind, grid)
        row = columns.reshape(-1)[: grid[1]].tolist()
        series.append(Series(name, [(i + 0.5) / grid[1] for i in range(grid[1])], row))
    return [Figure("Where tokens lie.", Plot("positions", "position in the picture", "coordinate", series, from_zero=True))]


GATES = Study(
    name="gate-curves",
    title="Gates of the controls",
    shows="figure 3",
    question="When does a control act, and does one alpha mean the same noise under every schedule?",
    claim="The power-cosine is 0 at noise and 1 at the data, later and steeper for a larger alpha.",
    figures=gates,
)
SCHEDULES = Study(
    name="schedule-curves",
    title="Noise schedules and their rescaling",
    shows="figure A1",
    question="How does the noise schedule move with the size of the pictures?",
    claim="For s'/s times larger sides the SNR of every time is divided by (s'/s)^2.",
    figures=schedules,
)
POSITIONS = Study(
    name="position-kinds",
    title="Positions at another resolution",
    shows="figure 4",
    question="Which coordinates does a larger grid give its tokens?",
    claim="Resampled positions keep the range seen in pre-training; extrapolated ones leave it.",
    figures=positions,
)
