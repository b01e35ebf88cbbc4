"""How far the fitting of a classifier has got, so that an interrupted one goes on to the same weights."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError

from open_ldm.core.errors import StoppedError
from open_ldm.core.files import write_bytes
from open_ldm.evaluation.features.small_network import SmallNetwork

_SAVE_EVERY_SECONDS = 30.0
_FILE = ".unfinished.safetensors"
_STATE = ("exp_avg", "exp_avg_sq", "step")


class FitProgress:
    """Keeps network and optimiser in the folder of the classifier while it is fitted.

    Args:
        folder: Where the classifier is going to be.
        key: Hash of all that decides its weights; what another fit left is not gone on with.
        interrupt: Called after every batch; where it raises StoppedError, network and optimiser are kept first.
    """

    def __init__(self, folder: Path, key: str, interrupt: Callable[[], None] = lambda: None) -> None:
        self._file, self._key = folder / _FILE, key
        self._interrupt = interrupt
        self._saved = time.monotonic()

    def restore(self, network: SmallNetwork, optimizer: torch.optim.AdamW) -> int:
        """Fill network and optimiser with what was kept; returns how many batches they have learned from, 0 for none."""
        try:
            with safetensors.safe_open(self._file, framework="pt") as file:
                about = file.metadata() or {}
                if about.get("key") != self._key:
                    return 0
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        except (OSError, SafetensorError):
            return 0
        network.load_state_dict({name: tensors[f"network.{name}"] for name in network.state_dict()})
        for name, parameter in network.named_parameters():
            state = {entry: tensors[f"{entry}.{name}"] for entry in _STATE}
            on_device = {entry: tensor if entry == "step" else tensor.to(parameter.device) for entry, tensor in state.items()}
            optimizer.state[parameter] = dict[str, Any](on_device)
        return int(about["batches"])

    def after_batch(self, network: SmallNetwork, optimizer: torch.optim.AdamW, batches: int, *, last: bool = False) -> None:
        """Keep network and optimiser, unless that was done a moment ago.

        Args:
            network: The classifier.
            optimizer: Its optimiser.
            batches: How many it has learned from.
            last: Whether no other follows; all is kept then, since the accuracy is still to be measured.

        Raises:
            StoppedError: By `interrupt`; network and optimiser are kept.
            DiskError: They cannot be.
        """
        if last or time.monotonic() - self._saved >= _SAVE_EVERY_SECONDS:
            self._save(network, optimizer, batches)
        try:
            self._interrupt()
        except StoppedError:
            self._save(network, optimizer, batches)
            raise

    def _save(self, network: SmallNetwork, optimizer: torch.optim.AdamW, batches: int) -> None:
        tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
        for name, parameter in network.named_parameters():
            tensors |= {f"{entry}.{name}": optimizer.state[parameter][entry] for entry in _STATE}
        kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        write_bytes(self._file, safetensors.torch.save(kept, {"key": self._key, "batches": str(batches)}))
        self._saved = time.monotonic()

    def remove(self) -> None:
        """Remove what was kept: the classifier is finished."""
        self._file.unlink(missing_ok=True)
