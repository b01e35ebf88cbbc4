"""Published layouts <-> ours, as lists of moves that can be undone to the bit.

A move takes a few tensors of a published file to a few of ours and back. A `KeyMap` is a list of moves that together
account for every tensor of both sides, so nothing is dropped or made up unseen.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from open_ldm.core.errors import CheckpointError, shortened

State = Mapping[str, Tensor]


class Move(ABC):
    """Tensors of a published layout, by the names `theirs`, and the same numbers as tensors of ours, by the names `ours`."""

    theirs: tuple[str, ...]
    ours: tuple[str, ...]

    @abstractmethod
    def read(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Convert tensors of theirs, in the order of `theirs`, to ours, in the order of `ours`.

        Raises:
            CheckpointError: Ours cannot hold these numbers.
        """

    @abstractmethod
    def write(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Convert tensors of ours to theirs: the inverse of `read`, to the bit."""


@dataclass(frozen=True)
class Same(Move):
    """One tensor under another name."""

    their_name: str
    our_name: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "theirs", (self.their_name,))
        object.__setattr__(self, "ours", (self.our_name,))

    def read(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the tensor as it is."""
        return tensors

    def write(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the tensor as it is."""
        return tensors


@dataclass(frozen=True)
class Reshaped(Same):
    """The same numbers in another shape: a convolution's kernel as a matrix."""

    their_shape: tuple[int, ...]
    our_shape: tuple[int, ...]

    def read(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return it in our shape. Raises CheckpointError where it does not come in theirs."""
        (tensor,) = tensors
        if tuple(tensor.shape) != self.their_shape:
            raise CheckpointError(f"{self.their_name} has shape {list(tensor.shape)}", needed=f"{list(self.their_shape)}")
        return [tensor.reshape(self.our_shape)]

    def write(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return it in their shape."""
        return [tensors[0].reshape(self.their_shape)]


@dataclass(frozen=True)
class HalvesSwapped(Same):
    """The two halves along the first dimension change places: (scale, shift) <-> (shift, scale)."""

    def read(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Exchange the two halves."""
        return [torch.cat(tensor.chunk(2)[::-1]) for tensor in tensors]

    def write(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Exchange them back."""
        return self.read(tensors)


@dataclass(frozen=True)
class Stacked(Move):
    """Several tensors of theirs, of equal size, stacked along the first dimension in one of ours: q, k, v <-> qkv."""

    their_names: tuple[str, ...]
    our_name: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "theirs", self.their_names)
        object.__setattr__(self, "ours", (self.our_name,))

    def read(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Stack their tensors along the first dimension."""
        return [torch.cat(list(tensors))]

    def write(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Split ours into equal parts, one for each of their names."""
        return tensors[0].chunk(len(self.theirs))


@dataclass(frozen=True)
class Copies(Move):
    """One tensor of ours of which they hold several copies."""

    their_names: tuple[str, ...]
    our_name: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "theirs", self.their_names)
        object.__setattr__(self, "ours", (self.our_name,))

    def read(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the first. Raises CheckpointError where another one differs from it."""
        first, *others = tensors
        for name, other in zip(self.theirs[1:], others, strict=True):
            if not torch.equal(first, other):
                raise CheckpointError(f"{name} differs from {self.theirs[0]}", needed="the same numbers in both")
        return [first]

    def write(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return a copy for each of their names."""
        return [tensors[0].clone() for _ in self.theirs]


@dataclass(frozen=True, eq=False)
class Computed(Move):
    """A table that they store and we compute: it must hold exactly `value`."""

    their_name: str
    value: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "theirs", (self.their_name,))
        object.__setattr__(self, "ours", ())

    def read(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return nothing. Raises CheckpointError where theirs is not `value`, number for number."""
        if tensors[0].shape != self.value.shape or not torch.equal(tensors[0], self.value):
            raise CheckpointError(f"{self.their_name} is not the table this architecture computes")
        return []

    def write(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return a copy of `value`."""
        return [self.value.clone()]


def layers(pairs: Mapping[str, str], parts: Sequence[str] = ("weight", "bias"), move: type[Same] = Same) -> list[Move]:
    """Build the moves of weight and bias of layers, given as {their name: our name}."""
    return [move(f"{theirs}.{part}", f"{ours}.{part}") for theirs, ours in pairs.items() for part in parts]


def stacked_layers(theirs: Sequence[str], ours: str, parts: Sequence[str] = ("weight", "bias")) -> list[Move]:
    """Build the moves of several layers of theirs, stacked in one of ours, weight and bias."""
    return [Stacked(tuple(f"{name}.{part}" for name in theirs), f"{ours}.{part}") for part in parts]


class KeyMap:
    """A whole published layout: moves that together account for every tensor of both sides."""

    def __init__(self, moves: Iterable[Move]) -> None:
        self.moves = tuple(moves)

    @property
    def theirs(self) -> list[str]:
        """Names of all tensors of the published layout."""
        return [name for move in self.moves for name in move.theirs]

    @property
    def ours(self) -> set[str]:
        """Names of all tensors of ours that the layout holds."""
        return {name for move in self.moves for name in move.ours}

    def read(self, state: State) -> dict[str, Tensor]:
        """Convert published tensors to ours.

        Args:
            state: Tensors by their published names.

        Returns:
            Tensors by our names.

        Raises:
            CheckpointError: Tensors are missing, or there are some that no move reads; the error names them.
        """
        missing = [name for name in self.theirs if name not in state]
        unknown = sorted(state.keys() - set(self.theirs))
        if missing or unknown:
            parts = [f"lacks {shortened(missing, 4)}"] * bool(missing) + [f"also holds {shortened(unknown, 4)}"] * bool(unknown)
            raise CheckpointError(f"the file {' and '.join(parts)}", needed="the layout of this architecture, whole")
        found: dict[str, Tensor] = {}
        for move in self.moves:
            found.update(zip(move.ours, move.read([state[name] for name in move.theirs]), strict=True))
        return found

    def write(self, ours: State) -> dict[str, Tensor]:
        """Convert our tensors to published ones: the inverse of `read`, to the bit. Raises KeyError when one is missing."""
        found: dict[str, Tensor] = {}
        for move in self.moves:
            found.update(zip(move.theirs, move.write([ours[name] for name in move.ours]), strict=True))
        return {name: tensor.contiguous() for name, tensor in found.items()}
