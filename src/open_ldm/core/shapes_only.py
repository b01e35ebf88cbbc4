"""Models of shapes alone: built on torch's meta device, where tensors have no values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode


class _NoRandomValues(TorchFunctionMode):
    """Draws no normal values."""

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is nn.init.normal_:
            return kwargs["tensor"]
        if func is torch.randn:
            return torch.empty(*args, **{key: value for key, value in kwargs.items() if key != "generator"})
        return func(*args, **kwargs)


@contextmanager
def shapes_only() -> Iterator[None]:
    """Context manager in which new modules and tensors have shapes and no values, and take no memory.

    It is `torch.device("meta")`, and leaves out the normal values of new weights: torch would draw none here either, but load
    its compiler to find that out, 1.5 seconds of every start.
    """
    with torch.device("meta"), _NoRandomValues():
        yield
