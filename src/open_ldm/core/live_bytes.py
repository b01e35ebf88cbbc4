"""The most bytes of tensors that live at a time while something is computed, also on fake tensors, which take no memory."""

from __future__ import annotations

import weakref
from functools import partial
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from open_ldm.core.nested import leaves


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the storages that operations make inside this context manager, each until its last tensor is gone.

    Storages that were there before do not count, nor what a kernel takes for itself and gives back before it returns. The
    backward pass counts where it runs in the same thread: on a CPU, and on fake tensors of one.

    Attributes:
        most: Bytes that lived at a time, at the most so far.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = 0
        self._held = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and look at the storages that it was given and made."""
        for leaf in leaves((args, kwargs or {})):
            self._note(leaf, made=False)
        result = func(*args, **(kwargs or {}))
        for leaf in leaves(result):
            self._note(leaf, made=True)
        return result

    def _note(self, leaf: Any, *, made: bool) -> None:
        if not isinstance(leaf, Tensor):
            return
        storage = leaf.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes() if made else 0
        self._known[key] = weakref.ref(storage, partial(self._gone, key, size))  # torch keeps one object a storage
        self._held += size
        self.most = max(self.most, self._held)

    def _gone(self, key: int, size: int, _: object) -> None:
        del self._known[key]  # its address may be another's next
        self._held -= size
