"""How far gradients computed in bf16 are from those of float32: open-ldm's own way beside torch.autocast on the same network.

    python benchmarks/gradient_error.py --emulate-bf16 --json gradient_error.json

Networks and inputs are those of train_step.py: nothing starts at zero, and the seed draws inputs and what would be zero. The
relative error of a gradient g is |g - g32| / |g32|, all parameters together. Three ways are compared on one network:

* `torch's attention` and `written out`: activations in bf16 on a residual stream of float32, as open-ldm trains, with each of
  the two ways of attention of a CPU (denoisers/blocks/attention.py);
* `autocast`: the network in float32 under torch.autocast.

`peer` is diffusers' network of the same size under autocast, with weights of its own. On a processor without bf16,
`--emulate-bf16` gives its arithmetic (bf16_in_float32.py), for convolutions too.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import bf16_in_float32
from contender import MODELS, Contender, ModelName, Setting
from contenders import build
from figures import measure_parts
from open_ldm.core.device import set_up_machine
from open_ldm.denoisers.attention_switch import write_out_up_to
from open_ldm.denoisers.base import Denoiser

WRITTEN_OUT = {"torch's attention": 0, "written out": 1 << 20}
"""Most keys for which attention is written out."""


def gradient(side: Contender) -> Tensor:
    """The gradient of all parameters, one after the other, in float64."""
    torch.autograd.backward(side.loss())
    taken = [each.grad.double().flatten() for each in side.parameters if each.grad is not None]
    for parameter in side.parameters:
        parameter.grad = None
    return torch.cat(taken)


def error(found: Tensor, exact: Tensor) -> float:
    """The relative error of a gradient."""
    return float((found - exact).norm() / exact.norm())


def compute_in(network: nn.Module, dtype: torch.dtype) -> None:
    """Have a network of open-ldm compute in this format by itself."""
    denoiser = next(module for module in network.modules() if isinstance(module, Denoiser))
    denoiser.compute_dtype = dtype


def under_autocast(side: Contender) -> Tensor:
    """The gradient under torch's autocast to bf16."""
    with torch.autocast("cpu", torch.bfloat16):
        return gradient(side)


def errors_of(model: ModelName, batch: int, latent: int, seed: int, peer: bool) -> dict[str, float]:
    """Errors of all ways of one network on one input."""
    both = build(Setting(model, "S", batch, latent, torch.device("cpu"), torch.float32), seed)
    exact = gradient(both.ours)
    found = {"autocast": error(under_autocast(both.ours), exact)}
    compute_in(both.ours.network, torch.bfloat16)
    for name, longest in WRITTEN_OUT.items():
        write_out_up_to(both.ours.network, {torch.bfloat16: longest})
        found[name] = error(gradient(both.ours), exact)
    if peer:
        exact = gradient(both.peer)
        found["peer"] = error(under_autocast(both.peer), exact)
    return found


def measure(model: ModelName, batch: int, latent: int, seeds: int, peer: bool) -> dict[str, Any]:
    """Errors by seed, and ours over autocast's: the mean over the seeds."""
    rows = [errors_of(model, batch, latent, seed, peer) for seed in range(seeds)]
    means = {way: sum(row[way] for row in rows) / seeds for way in rows[0]}
    ratios = {way: round(means[way] / means["autocast"], 3) for way in WRITTEN_OUT}
    return {"errors": rows, "means": {way: float(f"{mean:.3g}") for way, mean in means.items()}, "of_autocast": ratios}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every model, and write each as it comes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--side", type=int, default=32, help="height and width of the latents")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--emulate-bf16", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args(arguments)
    set_up_machine("cpu", "bf16")
    if given.emulate_bf16:
        bf16_in_float32.emulate(convolutions=True)
    parts: dict[str, Callable[[], Any]] = {
        model: lambda model=model: measure(model, given.batch, given.side, given.seeds, not given.no_peer)
        for model in given.models
    }
    facts = {"torch": torch.__version__, "batch": given.batch, "latent_side": given.side, "seeds": given.seeds}
    measure_parts(parts, {**facts, "bf16_emulated": given.emulate_bf16}, given.json)


if __name__ == "__main__":
    main()
