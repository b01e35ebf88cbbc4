"""The part of a run's report that shows when, between noise and data, each control acts."""

from __future__ import annotations

import torch
from pydantic import TypeAdapter, ValidationError

from open_ldm.controls.gate import GateConfig, gamma
from open_ldm.pages.charts import Plot, Series
from open_ldm.pages.content import Part, figure
from open_ldm.runs.history import RunHistory, lookup


def gates_part(history: RunHistory) -> Part | None:
    """gamma(t) of every control, equal ones as one curve; None for a run without controls."""
    times = torch.linspace(0, 1, 201, dtype=torch.float64)
    groups: dict[str, list[str]] = {}
    curves: dict[str, list[float]] = {}
    for control in history.controls:
        try:
            gate = TypeAdapter(GateConfig).validate_python(lookup(control, "gate"))
        except ValidationError:
            continue
        words = " ".join([gate.kind, *(f"α = {value:g}" for name, value in gate if name != "kind")]).replace("_", " ")
        groups.setdefault(words, []).append(str(lookup(control, "kind")).replace("_", " "))
        curves[words] = gamma(gate, times).tolist()
    if not groups:
        return None
    series = [Series(f"{', '.join(names)} ({words})", times.tolist(), curves[words]) for words, names in groups.items()]
    plot = Plot("Gates of the controls", "t (0 = data, 1 = noise)", "γ(t)", series, width=640, height=300)
    return Part("Gates of the controls", "run/gates.html", figure(plot, narrow_px=(380, 260)))
