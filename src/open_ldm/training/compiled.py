"""Compiled blocks: torch.compile makes one graph of each block of a denoiser, and equal blocks share it.

Networks are compiled block by block and not as a whole, which takes a fraction of the time and leaves the hooks of DDP and
FSDP2 outside. Shapes are static, so that which kernel runs does not depend on where a run was interrupted: a block is compiled
for the shape of its first call, and calls of another shape (the shortened sequences of MDTv2's masked pass) compute as without.
"""

from __future__ import annotations

import time
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from open_ldm.core.errors import cut
from open_ldm.core.nested import leaves
from open_ldm.training.compile_check import Call, difference, run_once, with_random_weights
from open_ldm.training.settings import Compile

AUTO_PARAMETERS = 20_000_000
AUTO_CAPABILITY = (7, 0)
"""Of a CUDA card. Triton, by which torch compiles for one, knows none below."""

Backend = Callable[[torch.fx.GraphModule, Sequence[Tensor]], Callable[..., Any]]
_REASON_LETTERS = 120


def wants_compiled(setting: Compile, device: torch.device, parameters: int) -> bool:
    """Decide whether blocks are compiled; no clock is asked.

    Args:
        setting: `auto` compiles on CUDA cards of compute capability 7.0 or newer, for networks of 20 million parameters or
            more. On CPUs it does not: products take most of the time there, and blocks are written with few passes already.
        device: Where the network is trained.
        parameters: Of the network.
    """
    if setting != "auto":
        return setting == "on"
    newer = device.type == "cuda" and torch.cuda.get_device_capability(device) >= AUTO_CAPABILITY
    return newer and parameters >= AUTO_PARAMETERS


@dataclass
class Compiler:
    """Compiles blocks, and counts what it compiled.

    Attributes:
        backend: Makes code of a graph; torch's own by default.
        graphs: How many graphs were compiled.
        expected: How many of them were compiled before the end of the first update; None until then.
        seconds: Time that compiling and running them for the first time took.
    """

    backend: Backend | None = None
    graphs: int = 0
    expected: int | None = None
    seconds: float = 0.0
    _shared: dict[tuple[object, ...], Callable[..., Any]] = field(default_factory=dict)

    @property
    def recompilations(self) -> int:
        """Graphs that were compiled after the first update, in the middle of a training."""
        return 0 if self.expected is None else self.graphs - self.expected

    def forward_of(self, block: Any) -> CompiledForward:
        """Return what computes the block's forward pass; it is compiled when it is first called."""
        kind = kind_of(block)
        if kind not in self._shared:
            torch._dynamo.config.optimize_ddp = False  # it would cut graphs where DDP exchanges gradients
            function = _with_own_code(type(block).forward, f"forward_{len(self._shared)}_of_{type(block).__name__}")
            self._shared[kind] = torch.compile(function, backend=self._compile, fullgraph=True, dynamic=False)
        return CompiledForward(partial(type(block).forward, block), partial(self._shared[kind], block))

    def updated(self) -> None:
        """Note that an update was made: whatever is compiled from now on comes late."""
        self.expected = self.graphs if self.expected is None else self.expected

    def try_out(
        self, blocks: Sequence[nn.Module], calls: Sequence[Call], dtype: torch.dtype, device: torch.device, *, check: bool
    ) -> str:
        """Compile one block of each kind, and run it forwards and backwards.

        Args:
            blocks: Of the denoiser; they may have no values, and are not changed.
            calls: What each of them is called with.
            dtype: Of matrix products.
            device: Where they compute.
            check: Compare them with the blocks as written.

        Returns:
            Why they cannot be used, in words; empty where they can.
        """
        first: dict[tuple[object, ...], tuple[nn.Module, Call]] = {}
        for block, call in zip(blocks, calls, strict=True):
            first.setdefault(kind_of(block), (block, call))
        for block, call in first.values():
            twin = with_random_weights(block, device)
            started = time.perf_counter()
            try:
                run_once(compiled := self.forward_of(twin), twin, call)
            except Exception as error:  # whatever a compiler fails with, training can do without it
                inner = getattr(error, "inner_exception", error)  # what a backend failed with, under torch's own words
                reason = next((line for line in str(inner).splitlines() if line.strip()), type(inner).__name__)
                return f"torch cannot compile {type(block).__name__} here ({cut(reason, _REASON_LETTERS)})"
            finally:
                self.seconds += time.perf_counter() - started
            if check and (problem := difference(twin, compiled, call, dtype)):
                return f"compiled, {type(block).__name__} is wrong: {problem}"
        return ""

    def _compile(self, graph: torch.fx.GraphModule, inputs: Sequence[Tensor]) -> Callable[..., Any]:
        backend: Any = self.backend or torch._dynamo.lookup_backend("inductor")
        compiled: Callable[..., Any] = backend(graph, inputs)
        self.graphs += 1
        return compiled


class CompiledForward:
    """The forward pass of a block: compiled for the shape of its first call, as written for any other."""

    def __init__(self, written: Callable[..., Any], compiled: Callable[..., Any]) -> None:
        self.written, self.compiled = written, compiled
        self._shape: torch.Size | None = None

    def __call__(self, *given: Any, **named: Any) -> Any:
        """Compute the block."""
        shape = next(leaf.shape for leaf in leaves(given) if isinstance(leaf, Tensor))
        self._shape = self._shape or shape
        return (self.compiled if shape == self._shape else self.written)(*given, **named)


def kind_of(block: nn.Module) -> tuple[object, ...]:
    """Return what blocks have in common that share compiled code: what they compute, and the shapes of their parameters."""
    return type(block).forward, *((name, tuple(parameter.shape)) for name, parameter in block.named_parameters())


def _with_own_code(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Copy a function with code of its own: torch keeps compiled graphs by code, at most eight of one."""
    assert isinstance(function, types.FunctionType)
    code = function.__code__.replace(co_name=name)
    copy = types.FunctionType(code, function.__globals__, name, function.__defaults__, function.__closure__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy
