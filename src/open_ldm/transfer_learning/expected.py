"""Which tensors of two models may differ by what their settings say, and why.

Nothing here knows an architecture: what depends on the latent channels, say, is what has another shape in the same network
built for other channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from torch import Tensor

from open_ldm.conditioning import Conditioning
from open_ldm.controls.data import fit_controls
from open_ldm.core.errors import ConfigError
from open_ldm.core.shapes_only import shapes_only
from open_ldm.denoisers import DenoiserConfig, Slots, build_denoiser
from open_ldm.model.alignment import ALIGNMENT
from open_ldm.model.diffusion import DiffusionModel
from open_ldm.model.spec import ModelSpec
from open_ldm.transfer_learning.semantic import CONTROLS, PREFIX, context_of, reason_for_new, same_context, settings_that_differ

Shapes = Mapping[str, tuple[int, ...]]

_SILENT = ("heads", "head_dim", "groups", "time_frequency_shift")
"""Settings of a denoiser that change what its weights mean without changing their shapes."""


@lru_cache(maxsize=8)
def skeleton(spec: ModelSpec) -> DiffusionModel:
    """Build the model without numbers, on the meta device."""
    with shapes_only():
        return DiffusionModel(spec)


def require_same_network(source: ModelSpec, target: ModelSpec) -> None:
    """Raise ConfigError where weights of equal shape would mean something else, naming the setting that decides it."""
    there, here = source.denoiser, target.denoiser
    if there.kind != here.kind:
        raise ConfigError(
            f"the source is a {there.kind}, the recipe's denoiser a {here.kind}",
            needed="the same architecture",
            fix=f"denoiser.kind={there.kind}",
        )
    for name in _SILENT:
        values = [getattr(side.geometry, name, getattr(side, name, None)) for side in (there, here)]
        if values[0] != values[1]:
            raise ConfigError(
                f"denoiser.{name}={values[1]}, but the source was trained with {values[0]}",
                needed="the same number: shapes do not show it, and the weights would mean something else",
                fix=f"denoiser.{name}={'null' if values[0] is None else values[0]}",
            )


def expected_changes(
    source: ModelSpec, target: ModelSpec, there: Mapping[str, Tensor], here: Mapping[str, Tensor]
) -> dict[str, str]:
    """Find the tensors that may be new or dropped by what the settings of two models say.

    Args:
        source: The model that is carried over.
        target: The new model.
        there: Tensors of the source, which may be without numbers.
        here: Tensors of the new model, likewise.

    Returns:
        {name: reason}; tensors that learned variance alone changes are not among them (`variance_readers`).
    """
    reasons = _denoiser_changes(source, target)
    why, differing = reason_for_new(source, target), settings_that_differ(source, target)
    controls = _control_changes(source, target)
    for name in {*there, *here}:
        control = name.removeprefix(CONTROLS).split(".")[0]
        if name.startswith(ALIGNMENT) and (name not in here or name not in there or here[name].shape != there[name].shape):
            reasons[name] = "objective.alignment of another shape, or of one of the two alone"
        if name.startswith(CONTROLS) and control in controls:
            reasons[name] = controls[control]
        if name.startswith(PREFIX) and (why or differing):
            alone = name not in here or name not in there
            if why or alone or here[name].shape[-1:] != there[name].shape[-1:]:
                reasons[name] = why or differing
    return reasons


def variance_readers(target: ModelSpec) -> set[str]:
    """Find the tensors that have more rows when the variance is learned."""
    slots = _slots(target)
    return _differing(target.denoiser, slots, target.denoiser, replace(slots, learned_variance=not slots.learned_variance))


def _control_changes(source: ModelSpec, target: ModelSpec) -> dict[str, str]:
    """Why the weights of a control, by its key, do not carry over. Its gate may change: it is no part of what they read."""
    read = [
        {control.key: control.weights_read() for control in fit_controls(spec.conditioning.controls, spec.facts.view)}
        for spec in (source, target)
    ]
    reasons: dict[str, str] = {}
    for kind in {**read[0], **read[1]}:
        there, here = (each.get(kind) for each in read)
        if there is None or here is None:
            reasons[kind] = f"control {kind} {'added' if there is None else 'removed'}"
        elif there != here:
            names = {**there, **here}
            differing = (f"{name} {there.get(name)} -> {here.get(name)}" for name in names if there.get(name) != here.get(name))
            reasons[kind] = f"control {kind} reads other numbers: {', '.join(differing)}"
    return reasons


def _denoiser_changes(source: ModelSpec, target: ModelSpec) -> dict[str, str]:
    slots, there, here = _slots(target), _slots(source), target.denoiser
    reasons: dict[str, str] = {}
    if not same_context(source, target):
        other = there.context_dim
        if other is not None and other == slots.context_dim:  # of one width, and yet not the same: any other shows the readers
            other += 1
        kinds = [context_of(spec) or "none" for spec in (source, target)]
        why = "context tokens " + (" -> ".join(kinds) if kinds[0] != kinds[1] else "of another text encoder")
        reasons |= dict.fromkeys(_differing(here, slots, here, replace(slots, context_dim=other)), why)
    if there.channels != slots.channels:
        readers = _differing(here, slots, here, replace(slots, channels=there.channels))
        reasons |= dict.fromkeys(readers, f"latent channels {there.channels} -> {slots.channels}")
    patches = [getattr(spec.denoiser, "patch", None) for spec in (source, target)]
    if patches[0] != patches[1]:
        readers = _differing(here, slots, here.model_copy(update={"patch": patches[0]}), slots)
        reasons |= dict.fromkeys(readers, f"patch {patches[0]} -> {patches[1]}")
    return reasons


def _slots(spec: ModelSpec) -> Slots:
    semantic, facts = spec.conditioning.semantic, spec.facts
    with shapes_only():
        conditioning = Conditioning(semantic, (), spec.denoiser.modulation_dim)
    return Slots(facts.channels, conditioning.context_dim, spec.process.learned_variance, facts.latent_size)


def _differing(one: DenoiserConfig, its_slots: Slots, other: DenoiserConfig, other_slots: Slots) -> set[str]:
    """Names of tensors that only one of two networks has, or that have another shape in each."""
    shapes, others = _shapes(one, its_slots), _shapes(other, other_slots)
    return {name for name in {*shapes, *others} if shapes.get(name) != others.get(name)}


@lru_cache(maxsize=8)
def _shapes(config: DenoiserConfig, slots: Slots) -> Shapes:
    with shapes_only():
        tensors: Mapping[str, Tensor] = build_denoiser(config, slots).state_dict()
    return {f"denoiser.{name}": tuple(tensor.shape) for name, tensor in tensors.items()}
