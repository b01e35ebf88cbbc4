"""Whether a run's blocks are compiled: settled when it starts, kept in its checkpoints, and used again when it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from open_ldm.core.events import duration
from open_ldm.runs.batches import Batches
from open_ldm.training.compiled import wants_compiled
from open_ldm.training.plan import BatchPlan
from open_ldm.training.settings import TrainingConfig
from open_ldm.training.trainer import DiffusionTrainer

SETTLED = "settled"
"""Entry of a manifest: what a run settled on at its start; runs that settled on nothing have none."""


@dataclass(frozen=True)
class Compiling:
    """How the blocks of a run are computed.

    Attributes:
        in_use: Whether they are compiled now.
        settled: What the run's checkpoints say of it.
        sentence: In words; empty where nobody asked for it.
    """

    in_use: bool = False
    settled: Mapping[str, Any] = field(default_factory=dict)
    sentence: str = ""


def compile_blocks(trainer: DiffusionTrainer, plan: BatchPlan, batches: Batches, saved: Mapping[str, Any] | None) -> Compiling:
    """Compile a trainer's blocks where the run wants that.

    A new run compares compiled blocks with those as written, and settles on the result. A run that goes on keeps what it
    settled on, unless its setting changed.

    Args:
        trainer: At the position where training goes on.
        plan: How its batches are cut.
        batches: One of them is read, to compile for its shapes.
        saved: Content of the manifest that the run goes on from; None for a new one.
    """
    training, device = trainer.config, trainer.device
    kept = saved is not None and TrainingConfig.model_validate(saved["recipe"]["training"]).compile == training.compile
    parameters = sum(parameter.numel() for parameter in trainer.state.model.parameters())
    wanted = _settled(saved) if kept else wants_compiled(training.compile, device, parameters)
    if not all(trainer.world.gathered(wanted, "whether blocks are compiled")):
        return Compiling()
    start = trainer.state.counters.samples_seen
    (batch,) = batches.read([next(plan.ranges(start))])
    problem = trainer.compile(batches.encoder.encode(batch), check=not kept)
    if problem or trainer.compiler is None:
        return Compiling(settled={"compile": True} if kept else {}, sentence=f"{problem}; training goes on uncompiled")
    compiler, count = trainer.compiler, len(trainer.blocks)
    checked = "" if kept else ", each compared with the same as written"
    sentence = f"{count} blocks compiled as {compiler.graphs} graphs in {duration(compiler.seconds)}{checked}"
    return Compiling(True, {"compile": True}, sentence)


def _settled(saved: Mapping[str, Any] | None) -> bool:
    content = {} if saved is None else saved.get(SETTLED, {})
    return isinstance(content, dict) and content.get("compile") is True
