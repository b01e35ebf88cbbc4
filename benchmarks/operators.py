"""Where the processor time of one training step goes, by kind of operator: open-ldm, diffusers, and an earlier checkout.

    python benchmarks/operators.py --json operators.json
    python benchmarks/operators.py --models unet --before ../before --json operators.json

Networks, inputs and step are those of train_step.py. Every operator below autograd is timed in the process's own processor
time, which other programs change little (torch's profiler counts the time that they take as well). What a step takes beside its
operators (Python, autograd's bookkeeping) is `rest`; for it whole steps are timed too. Figures are medians over the steps, the
sides by turns. An earlier checkout has modules of the same names, so it is measured in a process of its own, with networks that
its own benchmarks/contenders.py builds.

For open-ldm it also says what follows the gradient in its trainer: the norm, clipping, AdamW and the average of the weights.
train_step.py has AdamW alone of these.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from figures import measure_parts

HERE = Path(__file__).resolve().parents[1]
MODELS = ("dit", "mdtv2", "mmdit", "pixart", "unet")
REST = "rest"
KINDS: Mapping[str, tuple[str, ...]] = {
    "optimiser": ("_fused_adam", "_foreach_"),
    "attention": ("_scaled_dot_product", "bmm", "baddbmm", "_softmax", "_safe_softmax"),
    "products": ("mm", "addmm", "mv", "addmv"),
    "convolutions": ("convolution",),
    "norms": ("native_layer_norm", "native_group_norm", "_fused_rms_norm"),
    "activations": ("gelu", "silu"),
    "sums": ("sum", "mean"),
    "copies": (
        *("copy_", "_to_copy", "clone", "cat", "fill_", "zero", "new_zeros", "index", "gather", "scatter", "constant_pad"),
        *("embedding", "upsample", "masked_fill", "slice_backward", "select_backward", "slice_scatter", "ones", "stack"),
    ),
    "adds and multiplies": (
        *("add", "mul", "sub", "div", "neg", "pow", "exp", "sin", "cos", "where", "mse_loss", "rsub", "lerp", "sqrt", "rsqrt"),
        "arange",
    ),
}
"""Beginnings of operators' names, tried in this order. A product adds its bias itself, which is no pass of its own."""


def kind_of(operator: str) -> str:
    """The kind of an operator by its name, such as `addmm`."""
    return next((kind for kind, names in KINDS.items() if operator.startswith(names)), REST)


class Clock(TorchDispatchMode):
    """Adds up the processor seconds of every operator that autograd calls, forward and backward.

    Attributes:
        seconds: By the operator's name.
        calls: How often it was called, by the same.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seconds: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call it and count."""
        name = func.overloadpacket.__name__
        started = time.process_time()
        result = func(*args, **(kwargs or {}))
        self.seconds[name] += time.process_time() - started
        self.calls[name] += 1
        return result


def step_of(side: Any) -> dict[str, Any]:
    """Processor seconds of a step of one side by operator, and of a step that is not looked into."""
    started = time.process_time()
    side.step()
    whole = time.process_time() - started
    with Clock() as clock:
        side.step()
    return {"whole": whole, "seconds": clock.seconds, "calls": clock.calls}


def summary(steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Shares of the kinds and the operators that take most, in the median over steps."""
    names = sorted(set().union(*(step["seconds"] for step in steps)))
    seconds = {name: median(step["seconds"].get(name, 0.0) for step in steps) for name in names}
    kinds: Counter[str] = Counter(dict.fromkeys(KINDS, 0.0))
    for name, taken in seconds.items():
        kinds[kind_of(name)] += taken
    whole = max(median(step["whole"] for step in steps), sum(seconds.values()))
    kinds[REST] += whole - sum(seconds.values())
    most = sorted(seconds, key=lambda name: -seconds[name])[:12]
    return {
        "seconds": round(whole, 4),
        "shares": {kind: round(taken / whole, 4) for kind, taken in kinds.items()},
        "operators": {
            name: {"share": round(seconds[name] / whole, 4), "calls": steps[0]["calls"][name], "kind": kind_of(name)}
            for name in most
        },
    }


def after_the_gradient(parameters: Sequence[Tensor], rounds: int = 3) -> dict[str, float]:
    """Processor seconds of what open-ldm's trainer does with a gradient, and of a copy of the weights; medians."""
    gradients = [torch.full_like(each, 1e-3) for each in parameters]
    weights, average, first, second = ([each.detach().clone() for each in parameters] for _ in range(4))
    counts = [torch.ones(()) for _ in parameters]
    for entries in (first, second):
        torch._foreach_zero_(entries)
    settings: dict[str, Any] = {"beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "eps": 1e-8, "amsgrad": False}
    parts: dict[str, Callable[[], object]] = {
        "norm": lambda: torch.nn.utils.get_total_norm(gradients),
        "clip": lambda: torch._foreach_mul_(gradients, torch.tensor(0.999)),
        "adamw": lambda: torch._fused_adamw_(
            weights, gradients, first, second, [], counts, lr=1e-4, maximize=False, **settings
        ),
        "average": lambda: torch._foreach_lerp_(average, weights, 1e-3),
        "copy": lambda: torch._foreach_copy_(weights, average),
    }
    taken: dict[str, list[float]] = {name: [] for name in parts}
    for number in range(1 + rounds):
        for name, work in parts.items():
            started = time.process_time()
            work()
            if number:
                taken[name].append(time.process_time() - started)
    return {name: round(median(seconds), 5) for name, seconds in taken.items()}


def measure(model: str, sides: Sequence[str], batch: int, latent: int, steps: int) -> dict[str, Any]:
    """Measure the sides `ours` and `peer` of one model in this process, whose import path says which checkout is ours."""
    contenders, contender = (importlib.import_module(name) for name in ("contenders", "contender"))
    machine = importlib.import_module("open_ldm.core.device").set_up_machine("cpu", "float32")
    both = contenders.build(contender.Setting(model, "S", batch, latent, machine.device, machine.compute_dtype))
    taken: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for side in sides:
        getattr(both, side).step()  # makes the optimiser's moments
    for _ in range(steps):
        for side in sides:
            taken[side].append(step_of(getattr(both, side)))
    found: dict[str, Any] = {side: summary(each) for side, each in taken.items()}
    if "peer" in sides:
        found["after_the_gradient"] = after_the_gradient(both.ours.parameters)
    return found


def measure_before(model: str, given: argparse.Namespace) -> dict[str, Any]:
    """Measure an earlier checkout's network in a process that imports that checkout."""
    root = given.before.resolve()
    paths = [root / "benchmarks", root / "src", HERE / "benchmarks"]
    # `-P`: else this folder would come before those of the checkout.
    call = [sys.executable, "-P", str(Path(__file__).resolve()), "--models", model, "--alone", "--steps", str(given.steps)]
    call += ["--batch", str(given.batch), "--side", str(given.side)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    done = subprocess.run(call, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every model, and write each as it comes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--before", type=Path, metavar="PATH", help="also measure this earlier checkout of open-ldm")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--side", type=int, default=32, help="height and width of the latents")
    parser.add_argument("--steps", type=int, default=3, help="of each side, twice: whole and by operator")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.alone:
        print(json.dumps(measure(given.models[0], ["ours"], given.batch, given.side, given.steps)["ours"]))
        return
    parts: dict[str, Callable[[], Any]] = {}
    for model in given.models:
        parts[model] = lambda model=model: measure(model, ["ours", "peer"], given.batch, given.side, given.steps)
        if given.before is not None:
            parts[f"{model} before"] = lambda model=model: measure_before(model, given)
    facts = {"torch": torch.__version__, "threads": torch.get_num_threads(), "dtype": "float32", "batch": given.batch}
    measure_parts(parts, {**facts, "latent_side": given.side}, given.json)


if __name__ == "__main__":
    main()
