"""Carrying weights over: what every tensor of a new model starts with, and an entry of the receipt for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import takewhile
from typing import Any

from torch import Tensor

from open_ldm.core.errors import ConfigError, shortened
from open_ldm.denoisers.blocks.positions import SizedByGrid
from open_ldm.model.spec import ModelSpec
from open_ldm.transfer_learning.expected import expected_changes, require_same_network, skeleton, variance_readers
from open_ldm.transfer_learning.receipt import Entry, Receipt
from open_ldm.transfer_learning.semantic import Matches, matches
from open_ldm.transfer_learning.settings import InitFromConfig

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Carried:
    """What a model starts with: all its tensors by name, and the receipt that says how each came about."""

    tensors: dict[str, Tensor]
    receipt: Receipt


def carry(source: ModelSpec, tensors: Tensors, target: ModelSpec, fresh: Tensors, settings: InitFromConfig) -> Carried:
    """Carry the weights of one model over to another.

    Args:
        source: The model that they are from.
        tensors: Its weights by name; they are not changed. Tensors on the meta device give the receipt alone.
        target: The new model.
        fresh: What the new model would start with otherwise; it is not changed.
        settings: How tensors reach another grid, and which may be new or dropped.

    Returns:
        What the new model starts with, and the receipt.

    Raises:
        ConfigError: A tensor that should carry over does not and is not allowed to be new, or something is allowed that did not
            happen.
    """
    require_same_network(source, target)
    carrier = _Carrier(source, tensors, target, fresh, settings)
    state = {name: carrier.start_of(name) for name in fresh}
    for name in tensors:
        if name not in fresh:
            carrier.drop(name)
    carrier.check()
    return Carried(state, Receipt(tuple(carrier.entries)))


class _Carrier:
    def __init__(
        self, source: ModelSpec, tensors: Tensors, target: ModelSpec, fresh: Tensors, settings: InitFromConfig
    ) -> None:
        self.source, self.tensors, self.target, self.fresh, self.settings = source, tensors, target, fresh, settings
        skeletons = skeleton(source), skeleton(target)
        self.modules = [dict(one.named_modules()) for one in skeletons]
        self.expected = expected_changes(source, target, *(one.state_dict() for one in skeletons))
        self.of_variance = (
            variance_readers(target) if source.process.learned_variance != target.process.learned_variance else set()
        )
        self.entries: list[Entry] = []
        self.unexpected: list[Entry] = []
        self.used: set[str] = set()

    def start_of(self, name: str) -> Tensor:
        """Return what the tensor starts with."""
        fresh, values = self.fresh[name], self.tensors.get(name)
        if values is None:
            return self._new(name, "the source has none")
        if (module := self._sized_by_grid(name)) is not None:
            return self._on_grid(name, values, *module)
        if name in self.expected:
            return self._new(name, "")
        if (table := matches(name, self.source, self.target, self.settings.classes)) is not None:
            return self._by_rows(name, values, *table)
        if name in self.of_variance:
            return self._mean_rows(name, values)
        if values.shape != fresh.shape:
            return self._new(name, "another shape")
        self._note(name, "kept", values, fresh)
        return values.clone()

    def drop(self, name: str) -> None:
        """Note a tensor of the source that the new model does not have."""
        entry = Entry(name, "dropped", tuple(self.tensors[name].shape), None, "no such tensor here")
        self._decided(entry)

    def check(self) -> None:
        """Raise ConfigError for what should have carried over, and for permissions that nothing needed."""
        if self.unexpected:
            listed = shortened([_plainly(entry) for entry in self.unexpected], 4)
            raise ConfigError(
                f"{len(self.unexpected)} tensors do not carry over from {self.settings.source}: {listed}",
                needed="a denoiser of the same geometry, or permission for these to be new or dropped",
                fix=f"--allow {_pattern([entry.name for entry in self.unexpected])!r}",
            )
        if idle := [pattern for pattern in self.settings.allow if pattern not in self.used]:
            raise ConfigError(f"init_from.allow={idle[0]!r} has no effect: all such tensors carry over", fix="remove it")

    def _new(self, name: str, why: str) -> Tensor:
        values, fresh = self.tensors.get(name), self.fresh[name]
        self._decided(Entry(name, "new", None if values is None else tuple(values.shape), tuple(fresh.shape), why))
        return fresh.clone()

    def _decided(self, entry: Entry) -> None:
        """Note what is new or dropped with its reason, or with a permission; else keep it for `check`."""
        name, reason = entry.name, self.expected.get(entry.name)
        if reason is None:
            allowed = next((pattern for pattern in self.settings.allow if fnmatchcase(name, pattern)), None)
            if allowed is None:
                self.unexpected.append(entry)
                return
            self.used.add(allowed)
            reason = f"{entry.reason}, allowed"
        self.entries.append(Entry(name, entry.action, entry.source, entry.target, reason))

    def _sized_by_grid(self, name: str) -> tuple[SizedByGrid, Any] | None:
        owner = name.rpartition(".")[0]
        there, here = (modules.get(owner) for modules in self.modules)
        return (here, there) if isinstance(here, SizedByGrid) and there is not None else None

    def _on_grid(self, name: str, values: Tensor, here: SizedByGrid, there: Any) -> Tensor:
        fresh = self.fresh[name]
        if values.shape[-1] != fresh.shape[-1]:
            return self._new(name, "another shape")
        resized = here.resize(values, there, fresh, self.settings.positions)
        if resized is values:
            self._note(name, "kept", values, fresh)
        else:
            self._note(name, "resampled", values, fresh, f"another grid, {here.resize_method(self.settings.positions)}")
        return resized.clone()

    def _by_rows(self, name: str, values: Tensor, found: Matches, what: str) -> Tensor:
        fresh = self.fresh[name]
        if values.shape[1:] != fresh.shape[1:]:
            return self._new(name, "another shape")
        here = [row for row, match in enumerate(found) if match is not None]
        there = [match for match in found if match is not None]
        start = fresh.clone()
        start[here] = values[there].to(fresh.dtype)
        whole = len(here) == len(values) == len(fresh)
        reasons = f"{what} known to both", f"{what} the source does not know", f"{what} not known here"
        if what == "classes" and self.settings.classes == "new":
            reasons = "no class", "init_from.classes=new", "init_from.classes=new"
        self._note_rows(name, "kept", (values, len(there)), (fresh, len(here)), "" if whole else reasons[0])
        self._note_rows(name, "new", None, (fresh, len(fresh) - len(here)), reasons[1])
        self._note_rows(name, "dropped", (values, len(values) - len(set(there))), None, reasons[2])
        return start

    def _mean_rows(self, name: str, values: Tensor) -> Tensor:
        """Carry the rows of the mean over: the first half of each pixel's channels where the variance is learned too."""
        fresh, channels = self.fresh[name].clone(), self.target.facts.channels
        (per_pixel, there), (own, here) = (
            (spec.output_channels, tensor) for spec, tensor in ((self.source, values), (self.target, fresh))
        )
        if len(there) // per_pixel != len(here) // own or there.shape[1:] != here.shape[1:]:
            return self._new(name, "another shape")
        here.view(-1, own, *here.shape[1:])[:, :channels] = there.view(-1, per_pixel, *there.shape[1:])[:, :channels]
        both = min(len(there), len(here))
        self._note_rows(name, "kept", (there, both), (here, both), "rows of the mean")
        self._note_rows(name, "new", None, (here, len(here) - both), "rows of the learned variance")
        self._note_rows(name, "dropped", (there, len(there) - both), None, "rows of the learned variance")
        return fresh

    def _note(self, name: str, action: Any, source: Tensor, target: Tensor, reason: str = "") -> None:
        self.entries.append(Entry(name, action, tuple(source.shape), tuple(target.shape), reason))

    def _note_rows(
        self, name: str, action: Any, source: tuple[Tensor, int] | None, target: tuple[Tensor, int] | None, reason: str
    ) -> None:
        """An entry for some rows of a tensor, unless there are none."""
        shapes = [None if part is None else (part[1], *part[0].shape[1:]) for part in (source, target)]
        if any(shape[0] for shape in shapes if shape is not None):
            self.entries.append(Entry(name, action, shapes[0], shapes[1], reason))


def _plainly(entry: Entry) -> str:
    shapes = [None if shape is None else "x".join(map(str, shape)) for shape in (entry.source, entry.target)]
    match shapes:
        case [None, here]:
            return f"{entry.name} ({here}) is not in the source"
        case [there, None]:
            return f"{entry.name} ({there}) is not in the new model"
        case [there, here]:
            return f"{entry.name} is {there} there and {here} here"
    raise AssertionError


def _pattern(names: list[str]) -> str:
    """A pattern for all names: the parts they begin with."""
    if len(names) == 1:
        return names[0]
    columns = zip(*(name.split(".") for name in names), strict=False)
    return ".".join([*(column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns)), "*"])
