"""The numerics fingerprint: what must be equal for a resumed run to be bit-equal (docs/reliability.md, 3.1)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

import open_ldm
from open_ldm.core.device import DtypeName, Machine
from open_ldm.core.distributed import World


def fingerprint(
    machine: Machine,
    world: World,
    micro_batch_size: int,
    data: str,
    recipe: Mapping[str, Any],
    libraries: Sequence[str] = (),
    gradients: str = "",
    compiled: bool = False,
) -> dict[str, str]:
    """Collect the facts about this process and its run that decide the bits of its numbers.

    Args:
        machine: Where it computes.
        world: The processes that train together.
        micro_batch_size: Pictures per forward pass.
        data: Hash of the data as they are read.
        recipe: The settings that change numbers, as plain data.
        libraries: Distributions whose versions count besides torch's, because a frozen encoder is theirs.
        gradients: How the processes sum gradients and their norm, as `Sharing.numerics`.
        compiled: Whether blocks are compiled.

    Returns:
        {name: value}, all as text.
    """
    chip = (
        torch.cuda.get_device_name(machine.device) if machine.device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    )
    return {
        "open_ldm": open_ldm.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "device": machine.device.type,
        "chip": chip,
        "threads": str(torch.get_num_threads()),
        "dtype": str(machine.compute_dtype).removeprefix("torch."),
        "float32_products": torch.get_float32_matmul_precision(),
        "deterministic": str(machine.device.type == "cpu" or torch.are_deterministic_algorithms_enabled()),
        "processes": str(world.size),
        "micro_batch_size": str(micro_batch_size),
        "data": data,
        "recipe": recipe_hash(recipe),
        # Two processes add in one order only. With more, and for the norm of shards, the way of exchange decides the rounding.
        **({"gradients": gradients} if gradients and (world.size > 2 or gradients != "ddp") else {}),
        **({"compile": "blocks"} if compiled else {}),
        **{name: version(name) for name in libraries},
    }


def recipe_hash(numerics: Mapping[str, Any]) -> str:
    """Return what stands for the settings that change numbers, plain data, in a fingerprint."""
    return hashlib.sha256(json.dumps(numerics, sort_keys=True).encode()).hexdigest()[:16]


def as_begun(machine: Machine, dtype: DtypeName, saved: Mapping[str, str]) -> Machine:
    """Choose where a run goes on whose `dtype` is auto: one begun in float32 stays in it on a card that takes fp16 by now.

    Args:
        machine: As it would be chosen for a new run.
        dtype: The run's setting.
        saved: Fingerprint of the checkpoint; empty for a new run.
    """
    if dtype == "auto" and machine.compute_dtype == torch.float16 and saved.get("dtype") == "float32":
        return replace(machine, compute_dtype=torch.float32)
    return machine


def compare(saved: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Compare two fingerprints.

    Args:
        saved: Of the checkpoint.
        now: Of this process.

    Returns:
        'yes', or 'no (threads 2→1, ...)' with every difference, or that the device gives other bits each time.
    """
    differing = [
        f"{name} {saved.get(name, '?')}→{now.get(name, '?')}"
        for name in sorted({*saved, *now})
        if saved.get(name) != now.get(name)
    ]
    if not differing and now.get("deterministic") == "False":
        differing = [f"training.deterministic is false on {now.get('device')}"]
    return f"no ({', '.join(differing)})" if differing else "yes"
