"""What it would save to make copies of the weights in bf16 once a step, and not at every call of a layer.

    python benchmarks/weight_copies.py --batch 8

Times a step of each denoiser as it is, and alone what it casts: every matrix to bf16, and its gradient back to float32, as
often as a step does. The share is the most that copies made once could save; with one forward pass in a step they are made once
already.
"""

from __future__ import annotations

import argparse
import json
import time
from statistics import median
from typing import Any

import torch

from open_ldm.core.device import set_up_machine
from open_ldm.denoisers.blocks.convolution import Conv2d
from open_ldm.denoisers.blocks.linear import Linear
from recompute import KINDS, trainer_of, update_of


def main() -> None:
    """Measure every denoiser."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", default=KINDS)
    parser.add_argument("--size", default="S")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args()
    machine = set_up_machine("cpu", "bf16")
    for kind in given.kinds:
        recipe, trainer, _ = trainer_of(kind, given.size, given.batch, "none", machine)
        calls: list[torch.Tensor] = []
        layers = [each for each in trainer.state.model.denoiser.modules() if isinstance(each, Linear | Conv2d)]

        def note(layer: Any, inputs: Any, calls: list[torch.Tensor] = calls) -> None:
            if inputs[0].dtype == torch.bfloat16:
                calls.append(layer.weight)

        hooks = [layer.register_forward_pre_hook(note) for layer in layers]
        update_of(recipe, trainer)
        for hook in hooks:
            hook.remove()
        steps, casts = [], []
        for _ in range(given.turns):
            started = time.process_time()
            update_of(recipe, trainer)
            steps.append(time.process_time() - started)
            started = time.process_time()
            for weight in calls:
                weight.detach().bfloat16().float()
            casts.append(time.process_time() - started)
        again = len(calls) - len({id(weight) for weight in calls})
        row = {
            "denoiser": kind,
            "casts": len(calls),
            "of_a_weight_cast_before": again,
            "step_seconds": round(median(steps), 4),
            "cast_seconds": round(median(casts), 4),
            "share": round(median(each / step for each, step in zip(casts, steps, strict=True)), 4),
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
