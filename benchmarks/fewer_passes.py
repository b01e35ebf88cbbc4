"""What fewer passes over memory would gain in a training step: present code beside fused forms, at the shapes of DiT-S/2.

    python benchmarks/fewer_passes.py --json fewer_passes.json [--compile]

Each idea is timed alone, forward and backward, in the process's own processor seconds; the forms take turns. A fused form is a
torch.autograd.Function of torch's own operators, or with `--compile` a region that torch compiles (half a minute of the
compiler each). Beside it stand how often a step does it, and the processor time of whole steps. `share` is what all calls take
of a step, and so the most that an idea could gain; `gain` is what it gained, with quartiles. Results and gradients of each form
must agree with the present ones to 1e-5.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from torch import Tensor

from contender import Setting
from contenders import build
from figures import measure_parts
from open_ldm.core.device import set_up_machine
from open_ldm.denoisers.base import SIZES
from open_ldm.denoisers.blocks.activation import tanh_gelu
from open_ldm.denoisers.blocks.modulation import EPSILON, modulated_norm

DEPTH, WIDTH, HEADS = (getattr(SIZES["S"], name) for name in ("depth", "width", "heads"))
TOKENS = 256
MOST_ERROR = 1e-5


class NormByPicture(torch.autograd.Function):
    """The modulated norm as one layer norm per picture, whose weight and bias are 1 + scale and shift."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        """See `modulated_norm`."""
        weight, out = 1 + scale, torch.empty_like(x)
        mean, rstd = (x.new_empty(*x.shape[:2], 1) for _ in range(2))
        for i in range(len(x)):
            torch.ops.aten.native_layer_norm.out(
                x[i], x.shape[-1:], weight[i, 0], shift[i, 0], EPSILON, out0=out[i], out1=mean[i], out2=rstd[i]
            )
        ctx.save_for_backward(x, weight, shift, mean, rstd)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of x, shift and scale."""
        x, weight, shift, mean, rstd = ctx.saved_tensors
        of_x, of_shift, of_weight = torch.empty_like(x), torch.empty_like(shift), torch.empty_like(weight)
        for i in range(len(x)):
            torch.ops.aten.native_layer_norm_backward.out(
                *(grad[i], x[i], x.shape[-1:], mean[i], rstd[i], weight[i, 0], shift[i, 0], [True, True, True]),
                out0=of_x[i],
                out1=of_weight[i, 0],
                out2=of_shift[i, 0],
            )
        return of_x, of_shift, of_weight


class WithBias(torch.autograd.Function):
    """A product that has its bias already: only the bias's gradient costs a pass, as after torch's product with a bias."""

    @staticmethod
    def forward(ctx: Any, product: Tensor, bias: Tensor) -> Tensor:
        """The product as it came."""
        return product.view_as(product)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Both gradients."""
        return grad, grad.sum(dim=0)


class GatedSum(torch.autograd.Function):
    """x + gate y, where the gate's gradient is made picture by picture, so that what is summed stays in the cache."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gate: Tensor, y: Tensor) -> Tensor:
        """See torch.addcmul."""
        ctx.save_for_backward(gate, y)
        return torch.addcmul(x, gate, y)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of x, gate and y; x's is the one that came."""
        gate, y = ctx.saved_tensors
        of_gate, product = torch.empty_like(gate), torch.empty_like(y[0])
        for i in range(len(y)):
            torch.mul(grad[i], y[i], out=product)
            torch.sum(product, dim=0, keepdim=True, out=of_gate[i])
        return grad, of_gate, grad * gate


def attention_present(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Written out as blocks/attention.py does."""
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    logits += bias
    return logits.softmax(dim=-1) @ v


def attention_fused(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Scale and bias in the product itself."""
    B, heads, T, width = q.shape
    queries, keys = (each.reshape(B * heads, -1, width) for each in (q, k))
    added = bias.expand(B, heads, T, -1).reshape(B * heads, T, -1)
    logits = torch.baddbmm(added, queries, keys.transpose(1, 2), alpha=width**-0.5)
    return logits.view(B, heads, T, -1).softmax(dim=-1) @ v


@dataclass(frozen=True)
class Idea:
    """Two forms of the same function.

    Attributes:
        model: In whose step it is counted.
        calls: Of it in a step.
        shapes: Of its inputs, all of which have gradients.
        present: As open-ldm computes it.
        fused: In fewer passes; None where only the compiler does it.
        plain: What the compiler is given.
    """

    model: str
    calls: int
    shapes: tuple[tuple[int, ...], ...]
    present: Callable[..., Tensor]
    fused: Callable[..., Tensor] | None
    plain: Callable[..., Tensor]


def ideas_of(batch: int) -> dict[str, Idea]:
    """The ideas by name, at the shapes of a batch."""
    tokens, vector = (batch, TOKENS, WIDTH), (batch, 1, WIDTH)
    heads, inner = (batch, HEADS, TOKENS, WIDTH // HEADS), (batch * TOKENS, 4 * WIDTH)

    def bias_gelu(product: Tensor, bias: Tensor) -> Tensor:
        return tanh_gelu(product + bias)

    def present_gelu(product: Tensor, bias: Tensor) -> Tensor:
        return tanh_gelu(WithBias.apply(product, bias))

    norm, gate = (tokens, vector, vector), (tokens, vector, tokens)
    biased = (heads, heads, heads, (1, HEADS, TOKENS, TOKENS))
    attentions = 2 * DEPTH + 1  # the plain and the masked pass, which has the side block too, as if it saw all tokens
    return {
        "norm and modulation": Idea("dit", 2 * DEPTH + 1, norm, modulated_norm, NormByPicture.apply, modulated_norm),
        "gate and residual": Idea("dit", 2 * DEPTH, gate, torch.addcmul, GatedSum.apply, torch.addcmul),
        "bias and GELU": Idea("dit", DEPTH, (inner, inner[1:]), present_gelu, None, bias_gelu),
        "softmax, scale and bias": Idea("mdtv2", attentions, biased, attention_present, attention_fused, attention_present),
    }


def forward_and_backward(form: Callable[..., Tensor], inputs: Sequence[Tensor], grad: Tensor) -> tuple[Tensor, ...]:
    """The result and the gradients of all inputs."""
    out = form(*inputs)
    return out.detach(), *torch.autograd.grad(out, list(inputs), grad)


def seconds_of(work: Callable[[], object]) -> float:
    """Processor seconds of this process."""
    started = time.process_time()
    work()
    return time.process_time() - started


def measure(idea: Idea, rounds: int, step: float, compiled: bool) -> dict[str, Any]:
    """Times of all forms by turns, and what they mean for a step of so many processor seconds."""
    torch.manual_seed(0)
    # Values near one: where a bias that a form does not read would change the result, it is zero.
    inputs = [torch.randn(shape).requires_grad_() for shape in idea.shapes]
    if idea.fused is None:
        inputs[1] = torch.zeros(idea.shapes[1]).requires_grad_()
    grad = torch.randn_like(idea.present(*inputs))
    forms: dict[str, Callable[..., Tensor]] = {"present": idea.present}
    if idea.fused is not None:
        forms["fused"] = idea.fused
    if compiled:
        forms["compiled"] = torch.compile(idea.plain, dynamic=False)
    wanted = forward_and_backward(idea.present, inputs, grad)
    taken: dict[str, list[float]] = {name: [] for name in forms}
    for name, form in forms.items():
        for one, other in zip(forward_and_backward(form, inputs, grad), wanted, strict=True):
            error = float((one - other).norm() / other.norm())
            if error > MOST_ERROR:
                raise SystemExit(f"{name} differs by {error:.1e}")
    for _ in range(rounds):
        for name, form in forms.items():
            taken[name].append(seconds_of(lambda form=form: forward_and_backward(form, inputs, grad)))
    return summary(idea, taken, step)


def summary(idea: Idea, taken: Mapping[str, Sequence[float]], step: float) -> dict[str, Any]:
    """Milliseconds of a call, its calls' share of a step, and the share that each other form saves, with quartiles."""
    now = median(taken["present"])
    found: dict[str, Any] = {
        "of": idea.model,
        "calls": idea.calls,
        "milliseconds": {name: round(1e3 * median(seconds), 3) for name, seconds in taken.items()},
        "share": round(idea.calls * now / step, 4),
    }
    for name, seconds in taken.items():
        if name != "present":
            saved = [idea.calls * (a - b) / step for a, b in zip(taken["present"], seconds, strict=True)]
            found[f"gain_{name}"] = [round(each, 4) for each in quantiles(saved, n=4, method="inclusive")]
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every idea, and write each as it comes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--step-rounds", type=int, default=3)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args(arguments)
    machine = set_up_machine("cpu", "float32")
    ideas, steps = ideas_of(given.batch), {}
    for model in dict.fromkeys(idea.model for idea in ideas.values()):
        side = build(Setting(model, "S", given.batch, 32, machine.device, torch.float32)).ours  # type: ignore[arg-type]
        side.step()
        steps[model] = median(seconds_of(side.step) for _ in range(given.step_rounds))
    parts = {
        name: lambda idea=idea: measure(idea, given.rounds, steps[idea.model], given.compile) for name, idea in ideas.items()
    }
    facts = {"torch": torch.__version__, "threads": torch.get_num_threads(), "batch": given.batch, "step_seconds": steps}
    measure_parts(parts, facts, given.json)


if __name__ == "__main__":
    main()
