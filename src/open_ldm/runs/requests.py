"""What a user asks for (a prompt or class, a seed, control values) -> condition inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from open_ldm.conditioning import ConditioningConfig, ConditionInputs
from open_ldm.conditioning.semantic import ClassSemantic, TextSemantic, noise_shape
from open_ldm.core import seeds
from open_ldm.core.errors import ConfigError, nearest
from open_ldm.model.spec import DataFacts
from open_ldm.text import TextEncoder


@dataclass(frozen=True)
class SampleRequest:
    """One picture: its seed, its caption or class name (None: nothing said), and control options such as size=64x64."""

    seed: int
    shows: str | None = None
    controls: Mapping[str, str] = field(default_factory=dict)


def inputs_for(
    requests: Sequence[SampleRequest],
    conditioning: ConditioningConfig,
    facts: DataFacts,
    text_encoder: TextEncoder | None = None,
) -> ConditionInputs:
    """Condition inputs, one row per request. Raises ConfigError for unknown classes, words, controls or values.

    `text_encoder`: needed by a model of captions.
    """
    semantic = conditioning.semantic
    said = [request.shows for request in requests]
    labels = text = noise = None
    if isinstance(semantic, ClassSemantic):
        labels = torch.tensor([0 if name is None else label_of(name, facts) for name in said])
    if isinstance(semantic, TextSemantic):
        if text_encoder is None:
            raise ValueError("a text-conditional model needs its text encoder")
        for caption in said:
            text_encoder.check_prompt(caption or "")
        text = text_encoder.encode([caption or "" for caption in said])
    if (shape := noise_shape(semantic)) is not None:
        noise = torch.cat([seeds.normal(request.seed, "padding", [0], shape) for request in requests])
    return ConditionInputs(
        keep_semantic=torch.tensor([name is not None for name in said]),
        keep_control=torch.ones(len(requests), dtype=torch.bool),
        labels=labels,
        text=text,
        controls=_controls(requests, conditioning, facts),
        padding_noise=noise,
    )


def label_of(name: str, facts: DataFacts) -> int:
    """Index of a class given by name, or by number."""
    if name in facts.class_names:
        return facts.class_names.index(name)
    is_number = name.isascii() and name.isdecimal() and len(name) < 10  # isdecimal alone takes other scripts' digits
    if is_number and int(name) < len(facts.class_names):
        return int(name)
    raise ConfigError(f"unknown class {name!r}", needed=nearest(name, facts.class_names))


def _controls(requests: Sequence[SampleRequest], conditioning: ConditioningConfig, facts: DataFacts) -> dict[str, torch.Tensor]:
    options = [control.option for control in conditioning.controls]
    for request in requests:
        for option in request.controls:
            if option not in options:
                known = nearest(option, options) if options else "this model was trained without controls"
                raise ConfigError(f"unknown control {option!r}", needed=known)
    values: dict[str, torch.Tensor] = {}
    for control in conditioning.controls:
        rows = [
            control.read(request.controls[control.option], facts.view)
            if control.option in request.controls
            else control.default(facts.view)
            for request in requests
        ]
        values[control.kind] = torch.tensor(rows, dtype=torch.float32)
    return values
