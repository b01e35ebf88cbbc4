"""Sample requests: what a user asks for (a prompt or class, a seed, control values) as condition inputs of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from open_ldm.conditioning import ConditioningConfig, ConditionInputs
from open_ldm.conditioning.semantic import ClassSemantic, TextSemantic, noise_shape
from open_ldm.core import seeds
from open_ldm.core.errors import ConfigError, nearest
from open_ldm.core.plain_data import plain_number
from open_ldm.model.spec import DataFacts
from open_ldm.text import TextEncoder


@dataclass(frozen=True)
class SampleRequest:
    """A request for one picture.

    Attributes:
        seed: Of all its random numbers.
        shows: Its caption or the name of its class; None for a picture without semantic condition.
        controls: Values of control conditions by option, such as {"size": "64x64"}; others get the model's default.
    """

    seed: int
    shows: str | None = None
    controls: Mapping[str, str] = field(default_factory=dict)


def build_inputs(
    requests: Sequence[SampleRequest],
    conditioning: ConditioningConfig,
    facts: DataFacts,
    text_encoder: TextEncoder | None = None,
) -> ConditionInputs:
    """Build the condition inputs of requests.

    Args:
        requests: One for each picture.
        conditioning: The model's.
        facts: The model's: its classes and the size of its views.
        text_encoder: Needed by a model of captions.

    Returns:
        Condition inputs on the CPU, one row for each request; nothing is dropped but missing semantic conditions.

    Raises:
        ConfigError: A class, word, control or value is unknown to the model.
    """
    semantic = conditioning.semantic
    shown = [request.shows for request in requests]
    labels = text = noise = None
    if isinstance(semantic, ClassSemantic):
        labels = torch.tensor([0 if name is None else label_of(name, facts) for name in shown])
    if isinstance(semantic, TextSemantic):
        if text_encoder is None:
            raise ValueError("a text-conditional model needs its text encoder")
        for caption in shown:
            text_encoder.check_prompt(caption or "")
        text = text_encoder.encode([caption or "" for caption in shown])
    if (shape := noise_shape(semantic)) is not None:
        noise = torch.cat([seeds.normal(request.seed, "padding", [0], shape) for request in requests])
    return ConditionInputs(
        keep_semantic=torch.tensor([name is not None for name in shown]),
        keep_control=torch.ones(len(requests), dtype=torch.bool),
        labels=labels,
        text=text,
        controls=_controls(requests, conditioning, facts),
        padding_noise=noise,
    )


def control_texts(values: Mapping[str, object]) -> dict[str, str]:
    """Return values of controls as they are typed: 1 for True and 1.0; those that are None are not asked for."""
    return {name: control_text(value) for name, value in values.items() if value is not None}


def control_text(given: object) -> str:
    """Return a value of a control as it is typed."""
    value = plain_number(given)
    if isinstance(value, bool | float) and float(value).is_integer():
        return str(int(value))
    return str(value)


def label_of(name: str, facts: DataFacts) -> int:
    """Index of a class that is given by name, or, where names are words, by its index in ASCII digits.

    Where a class is called by a number, such as folders 1, 2, 10 and 11, every number is a name.

    Raises:
        ConfigError: The model knows no such class.
    """
    if name in facts.class_names:
        return facts.class_names.index(name)
    is_index = _is_number(name) and int(name) < len(facts.class_names)
    if is_index and not any(map(_is_number, facts.class_names)):
        return int(name)
    fix = f"--class-index {int(name)}, for the class at that index" if is_index else ""
    raise ConfigError(f"the model knows no class {name!r}", needed=nearest(name, facts.class_names), fix=fix)


def class_at(index: int, facts: DataFacts) -> str:
    """Return the name of the class at an index. Raises ConfigError when there is none."""
    if not 0 <= index < len(facts.class_names):
        raise ConfigError(f"the model has no class at index {index}", needed=f"0 to {len(facts.class_names) - 1}")
    return facts.class_names[index]


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal() and len(name) < 10  # isdecimal alone takes other scripts' digits


def _controls(requests: Sequence[SampleRequest], conditioning: ConditioningConfig, facts: DataFacts) -> dict[str, torch.Tensor]:
    options = [control.asked_as for control in conditioning.controls]
    for request in requests:
        for option in request.controls:
            if option not in options:
                known = nearest(option, options) if options else "this model was trained without controls"
                raise ConfigError(f"the model knows no control {option!r}", needed=known)
    values: dict[str, torch.Tensor] = {}
    for control in conditioning.controls:
        rows = [
            control.read(request.controls[control.asked_as], facts.view)
            if control.asked_as in request.controls
            else control.default(facts.view)
            for request in requests
        ]
        values[control.key] = torch.tensor(rows, dtype=torch.float32)
    return values
