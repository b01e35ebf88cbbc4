"""Refusing what a model cannot show, or what would have no effect: for `ldm sample` as for an exported pipeline."""

from __future__ import annotations

from dataclasses import dataclass

from open_ldm.conditioning import ConditioningConfig
from open_ldm.conditioning.semantic import ClassSemantic, NoSemantic, TextSemantic
from open_ldm.core.errors import ConfigError
from open_ldm.model.spec import DataFacts
from open_ldm.sampling.guidance import GuidanceConfig
from open_ldm.text import TextEncoder


@dataclass(frozen=True)
class Spelling:
    """How a person writes what they ask for: an option as it is, and one with a value in it."""

    prompt: str
    with_prompt: str
    negative: str
    classes: str
    with_class: str
    with_scale: str
    semantic_scale: str
    control_scale: str


COMMAND = Spelling(
    prompt="--prompt",
    with_prompt="--prompt TEXT",
    negative="--negative-prompt",
    classes="--class",
    with_class="--class {!r}",
    with_scale="--semantic-scale 2, or any other but 1",
    semantic_scale="--semantic-scale",
    control_scale="--control-scale",
)
PIPELINE = Spelling(
    prompt="prompt",
    with_prompt="prompt=TEXT",
    negative="negative_prompt",
    classes="class_labels",
    with_class="class_labels={!r}",
    with_scale="guidance_scale=2, or any other but 1",
    semantic_scale="guidance_scale",
    control_scale="control_scale",
)


@dataclass(frozen=True)
class Asked:
    """What is asked of a model, to be checked.

    Attributes:
        conditioning: The model's.
        facts: What it learned of its data.
        spelling: Of the options, in errors.
    """

    conditioning: ConditioningConfig
    facts: DataFacts
    spelling: Spelling = COMMAND

    def check_kind(self, *, prompts: bool, classes: bool) -> None:
        """Raise ConfigError for prompts to a model without captions, or classes to one without classes."""
        said = self.spelling
        if prompts:
            self.require_captions(said.prompt)
        if classes and not isinstance(self.conditioning.semantic, ClassSemantic):
            fix = said.with_prompt if isinstance(self.conditioning.semantic, TextSemantic) else "leave it out"
            raise ConfigError(f"{said.classes} was given, but this model was not trained with classes", fix=fix)

    def require_captions(self, option: str) -> None:
        """Raise ConfigError where a model reads no captions; `option` is what was given."""
        semantic = self.conditioning.semantic
        if not isinstance(semantic, TextSemantic):
            names = self.facts.class_names
            fix = self.spelling.with_class.format(names[0]) if isinstance(semantic, ClassSemantic) else "leave it out"
            raise ConfigError(f"{option} was given, but this model was not trained with captions", fix=fix)

    def check_scales(self, semantic_scale: float | None, control_scale: float | None, own: GuidanceConfig) -> None:
        """Raise ConfigError for a scale of conditions that the model does not have.

        Without a semantic condition its scale still leads away from pictures without controls.

        Args:
            semantic_scale: As it was given; None where it was not.
            control_scale: Likewise.
            own: What the model's recipe has, which is not refused.
        """
        said, controls = self.spelling, bool(self.conditioning.controls)
        for option, given, usual, read, lacks in (
            (said.control_scale, control_scale, own.control_scale, controls, "controls"),
            (
                said.semantic_scale,
                semantic_scale,
                own.semantic_scale,
                controls or not isinstance(self.conditioning.semantic, NoSemantic),
                "conditions",
            ),
        ):
            if not read and given not in (None, 1, usual):
                raise ConfigError(f"{option} {given:g} has no effect: this model has no {lacks}", fix="leave it out")

    def check_negative(self, negative: str, encoder: TextEncoder | None, semantic_scale: float) -> None:
        """Raise ConfigError for a negative prompt that the model cannot read, or that has no effect."""
        said = self.spelling
        self.require_captions(said.negative)
        if encoder is None:
            raise ValueError("a text-conditional model has its text encoder")
        encoder.check_prompt(negative)
        if not negative.strip():
            raise ConfigError(
                f"{said.negative} is empty",
                needed="at least one word; without the option guidance leads away from the empty caption",
            )
        if semantic_scale == 1:
            raise ConfigError(f"{said.negative} has no effect without guidance", fix=said.with_scale)
