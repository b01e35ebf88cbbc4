"""Peak memory of a training step, open-ldm and diffusers, each in a fresh process at the same batch.

    python benchmarks/step_memory.py --json step_memory.json [--models unet dit] [--batch 8] [--written-out]

Networks, inputs and step are those of train_step.py, in float32. Both networks are built and the other one is dropped; then
what Linux counts for the process (VmHWM) is set back, and one whole step is made with AdamW's moments in place. `above` is the
peak without what the process had before the network was built: torch, diffusers and this program. `--written-out` has open-ldm
write out all attention, which some processors do up to 1,024 keys (denoisers/attention_switch.py).
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import torch

from contender import MODELS, Contender, ModelName, Setting
from contenders import build
from figures import measure_parts, memory
from open_ldm.core.device import forget_most_memory, set_up_machine
from open_ldm.denoisers.attention_switch import write_out_up_to

ALL_KEYS = 1 << 20


def make_moments(side: Contender) -> None:
    """AdamW's moments, without the memory of a step: one of zeros changes the weights by no more than their decay."""
    for parameter in side.parameters:
        parameter.grad = torch.zeros_like(parameter)
    side._optimizer.step()
    side._optimizer.zero_grad(set_to_none=True)


def measure_here(model: ModelName, side: str, batch: int, latent: int, written_out: bool) -> dict[str, int]:
    """Megabytes of one step of one side in this process."""
    machine = set_up_machine("cpu", "float32")
    before = memory("VmRSS")
    both = build(Setting(model, "S", batch, latent, machine.device, torch.float32))
    chosen: Contender = getattr(both, side)
    del both
    if written_out and side == "ours":
        write_out_up_to(chosen.network, {torch.float32: ALL_KEYS})
    make_moments(chosen)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what the other side had goes back to Linux
    built = memory("VmRSS")
    forget_most_memory(machine.device)
    chosen.step()
    peak = memory("VmHWM")
    return {
        "peak_mb": peak,
        "above_mb": peak - before,
        "step_mb": peak - built,
        "weights_mb": chosen.parameter_count * 4 // 10**6,
    }


def measure(model: str, given: argparse.Namespace) -> dict[str, Any]:
    """Both sides of a model, and ours over the peer's."""
    found: dict[str, Any] = {}
    for side in ("ours", "peer"):
        call = [sys.executable, __file__, "--one", model, side, "--batch", str(given.batch), "--side", str(given.side)]
        call += ["--written-out"] if given.written_out else []
        done = subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True)
        found[side] = json.loads(done.stdout.splitlines()[-1])
    for name in ("peak_mb", "above_mb"):
        found[f"ratio_{name.removesuffix('_mb')}"] = round(found["ours"][name] / found["peer"][name], 3)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every model, and write each as it comes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["unet"])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--side", type=int, default=32, help="height and width of the latents")
    parser.add_argument("--written-out", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "SIDE"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.one:
        model, side = given.one
        assert model in get_args(ModelName)
        print(json.dumps(measure_here(model, side, given.batch, given.side, given.written_out)))
        return
    facts = {"torch": torch.__version__, "threads": torch.get_num_threads(), "dtype": "float32", "batch": given.batch}
    facts |= {"latent_side": given.side, "written_out": given.written_out}
    measure_parts({model: lambda model=model: measure(model, given) for model in given.models}, facts, given.json)


if __name__ == "__main__":
    main()
