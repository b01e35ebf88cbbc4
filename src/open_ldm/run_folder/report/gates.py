"""The part of a run's report that shows when, between noise and data, each control acts."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from open_ldm.controls.gate import ConstantGate, GateConfig, gamma
from open_ldm.model.spec import ProcessConfig
from open_ldm.pages.charts import Plot, Series
from open_ldm.pages.content import Part, figure
from open_ldm.process.reference_clock import reference_time
from open_ldm.process.schedules import Schedule
from open_ldm.run_folder.history import RunHistory, lookup
from open_ldm.run_folder.recipe_schema import of_its_day


def gates_part(history: RunHistory) -> Part | None:
    """When each control acts; None for a run without controls."""
    figures = [figure(plot, narrow_px=(380, 260)) for plot in gate_plots(history)]
    return Part("Gates of the controls", "run/gates.html", figures) if figures else None


def gate_plots(history: RunHistory) -> list[Plot]:
    """gamma of every control over t and over the log-SNR, equal ones as one curve; nothing for a run without controls."""
    config = of_its_day(history.config) if isinstance(history.config, dict) else {}
    try:
        schedule = ProcessConfig.model_validate(config.get("process") or {}).build_schedule()
    except ValidationError:
        return []
    times = torch.linspace(0, 1, 201, dtype=torch.float64)
    groups: dict[str, list[str]] = {}
    curves: dict[str, list[float]] = {}
    controls = lookup(config, "conditioning.controls")
    for control in controls if isinstance(controls, list) else ():
        try:
            gate = TypeAdapter(GateConfig).validate_python(lookup(control, "gate"))
        except ValidationError:
            continue
        words = _in_words(gate)
        groups.setdefault(words, []).append(str(lookup(control, "column") or lookup(control, "kind")).replace("_", " "))
        curves[words] = gamma(gate, clock_time(gate, schedule, times)).tolist()
    named = [(f"{', '.join(names)} ({words})", curves[words]) for words, names in groups.items()]
    log_snr = schedule.log_snr(times).clamp(-12, 12).tolist()
    over_time = [Series(name, times.tolist(), curve) for name, curve in named]
    over_noise = [Series(name, log_snr, curve) for name, curve in named]
    if not named:
        return []
    return [
        Plot("Gates of the controls over time", "t (0 = data, 1 = noise)", "γ", over_time, height=300),
        Plot("Gates of the controls over the noise level", "log-SNR (left noise, right data)", "γ", over_noise, height=300),
    ]


def clock_time(gate: Any, schedule: Schedule, t: torch.Tensor) -> torch.Tensor:
    """Return the times of a gate's own clock for times t of a schedule."""
    return t if isinstance(gate, ConstantGate) or gate.clock == "time" else reference_time(schedule, t)


def _in_words(gate: Any) -> str:
    if isinstance(gate, ConstantGate):
        return "constant"
    return f"{gate.kind.replace('_', ' ')} α = {gate.alpha:g} on {'t' if gate.clock == 'time' else 'the noise level'}"
