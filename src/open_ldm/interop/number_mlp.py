"""PixArt's embedding of numbers (sizes, aspect ratio) as one of our control embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from open_ldm.core.errors import CheckpointError
from open_ldm.interop.keymap import Move


@dataclass(frozen=True)
class NumberMlp(Move):
    """One MLP (256 features -> D/3 -> D/3) that PixArt applies to each number of a condition <-> our MLP over all of them.

    Number i fills the third `thirds[i]` of the D outputs, so ours is made of copies of theirs in blocks and zeros elsewhere.

    Attributes:
        their_layers: Names of the two layers of theirs.
        control: Kind of our control condition.
        thirds: For each number, which third of the width it fills.
    """

    their_layers: tuple[str, str]
    control: str
    thirds: tuple[int, ...]

    def __post_init__(self) -> None:
        ours = (f"conditioning.controls.{self.control}.{layer}" for layer in ("hidden", "out"))
        for side, names in (("theirs", self.their_layers), ("ours", ours)):
            object.__setattr__(self, side, tuple(f"{name}.{part}" for name in names for part in ("weight", "bias")))

    def read(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Copy their MLP [out, in] into ours, once for each number; all else of ours is zero."""
        weight_in, bias_in, weight_out, bias_out = tensors
        third, features = weight_in.shape
        hidden, out = weight_in.new_zeros(3 * third, features * len(self.thirds)), weight_out.new_zeros(3 * third, 3 * third)
        hidden_bias, out_bias = bias_in.new_zeros(3 * third), bias_out.new_zeros(3 * third)
        for number, rows in enumerate(self._rows(third)):
            hidden[rows, number * features : (number + 1) * features] = weight_in
            out[rows, rows] = weight_out
            hidden_bias[rows], out_bias[rows] = bias_in, bias_out
        return [hidden, hidden_bias, out, out_bias]

    def write(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the MLP of the first number. Raises CheckpointError unless all numbers have the same one and nothing else."""
        hidden, hidden_bias, out, out_bias = tensors
        third, features = len(hidden) // 3, hidden.shape[1] // len(self.thirds)
        rows = self._rows(third)[0]
        theirs = [hidden[rows, :features], hidden_bias[rows], out[rows, rows], out_bias[rows]]
        if not all(torch.equal(one, other) for one, other in zip(self.read(theirs), tensors, strict=True)):
            raise CheckpointError(
                f"the control {self.control} does not fit PixArt's layout",
                needed="one MLP, the same for every number, in a third of the width each",
                fix="export weights that were imported from PixArt and trained no further",
            )
        return theirs

    def _rows(self, third: int) -> list[slice]:
        return [slice(index * third, (index + 1) * third) for index in self.thirds]
