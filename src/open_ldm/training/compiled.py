"""Compiled blocks: torch.compile makes one graph of each block of a denoiser, and equal blocks share it.

Networks are compiled block by block and not as a whole, which takes a fraction of the time and leaves the hooks of DDP and FSDP2
outside. Shapes are static, so that which kernel runs does not depend on where a run was interrupted: a block is compiled for the
shape of its first call, and calls of another shape (the shortened sequences of MDTv2's masked pass) compute as without.
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

from open_ldm.core.nested import leaves
from open_ldm.training.settings import Compile

AUTO_PARAMETERS = 20_000_000
AUTO_CAPABILITY = (7, 0)
"""Of a CUDA card. Triton, by which torch compiles for one, knows none below."""

Backend = Callable[[torch.fx.GraphModule, Sequence[Tensor]], Callable[..., Any]]


def wants_compiled(setting: Compile, device: torch.device, parameters: int) -> bool:
    """Decide whether blocks are compiled; no clock is asked.

    Args:
        setting: `auto` compiles on CUDA cards of compute capability 7.0 or newer, for networks of 20 million parameters or more.
            On CPUs it does not: the products take most of the time there, and blocks are written with few passes already.
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
        expected: How many of them were wanted. More are recompilations, which cost time in the middle of a training.
        seconds: Time they took, in which a graph's backward pass may be missing.
    """

    backend: Backend | None = None
    graphs: int = 0
    expected: int = 0
    seconds: float = 0.0
    _shared: dict[tuple[object, ...], Callable[..., Any]] = field(default_factory=dict)

    @property
    def recompilations(self) -> int:
        """Graphs beyond those that were wanted."""
        return max(0, self.graphs - self.expected)

    def forward_of(self, block: Any) -> CompiledForward:
        """Return what computes the block's forward pass; it is compiled when it is first called."""
        kind = kind_of(block)
        if kind not in self._shared:
            torch._dynamo.config.optimize_ddp = False  # it would cut graphs where DDP exchanges gradients
            function = _with_own_code(type(block).forward, f"forward_{len(self._shared)}_of_{type(block).__name__}")
            self._shared[kind] = torch.compile(function, backend=self._compile, fullgraph=True, dynamic=False)
        return CompiledForward(partial(type(block).forward, block), partial(self._shared[kind], block))

    def _compile(self, graph: torch.fx.GraphModule, inputs: Sequence[Tensor]) -> Callable[..., Any]:
        started = time.perf_counter()
        try:
            backend: Any = self.backend or torch._dynamo.lookup_backend("inductor")
            compiled: Callable[..., Any] = backend(graph, inputs)
        finally:
            self.seconds += time.perf_counter() - started
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
    """Return what blocks have in common that share compiled code: their class and the shapes of their parameters."""
    return type(block).__qualname__, *((name, tuple(parameter.shape)) for name, parameter in block.named_parameters())


def _with_own_code(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """Copy a function with code of its own: torch keeps compiled graphs by code, at most eight of one."""
    assert isinstance(function, types.FunctionType)
    code = function.__code__.replace(co_name=name)
    copy = types.FunctionType(code, function.__globals__, name, function.__defaults__, function.__closure__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy
