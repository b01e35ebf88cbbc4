"""Play: one request, and the pictures of it. The PNG of a seed is the one that `ldm sample` writes for the same request."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from open_ldm.commands.sample import sample, steps_of
from open_ldm.commands.sample_options import SampleOptions, checked_settings
from open_ldm.commands.samples import Samples, Sheet
from open_ldm.core.config import Config
from open_ldm.core.counted import counted
from open_ldm.core.errors import ConfigError, nearest
from open_ldm.core.pictures import png_bytes
from open_ldm.runs.load import LoadedRun
from open_ldm.sampling.generate import SolverName
from open_ldm.sampling.guidance import MOST_SCALE
from open_ldm.sampling.requests import SampleRequest, control_text, control_texts
from open_ldm.studio.device_queue import Job
from open_ldm.studio.limits import LIMITS
from open_ldm.studio.models import Models

MOST_SEED = 2**53 - 1
"""The largest whole number that a browser holds exactly."""
_START = "data:image/"


def _as_typed(given: Any) -> Any:
    return control_text(given) if isinstance(given, bool | int | float) else given


ControlValue = Annotated[
    str | None, BeforeValidator(_as_typed), WithJsonSchema({"type": ["string", "number", "boolean", "null"]})
]
"""Text as it is typed, or a number, true or false, which become that."""

ClassName = Annotated[
    str | None,
    BeforeValidator(lambda given: str(given) if type(given) is int else given),
    WithJsonSchema({"type": ["string", "integer", "null"], "maxLength": LIMITS.text}),
]
"""A class by its name, or by its index as a number."""


class PlayRequest(Config):
    """What is asked of one model: the body of `POST /api/sample`. What is null is the model's own.

    Attributes:
        model: A name that `/api/runs` lists.
        prompt: A caption, for a model of captions.
        label: A class, for a model of classes: its name, or its index where no name is a number.
        controls: Option -> value, such as {"size": "96x96", "flip": true}, as `ldm sample` and `run.sample` take them: an empty
            text leaves open what can be left open, null is the model's default.
        seed: Of the first picture; the next has the next seed.
        count: Pictures.
        steps: Of the solver.
        solver: ddpm, ddim, euler, heun or dpmpp_2m.
        semantic_scale: Guidance towards the caption or class; 1 is none.
        control_scale: Guidance towards the controls; 1 is none.
        start: A picture to start from, its file as base64 or as a data URI.
        strength: The time in (0, 1] that it is noised to.
    """

    model: str = Field(max_length=LIMITS.text)
    prompt: str | None = Field(default=None, max_length=LIMITS.text)
    label: ClassName = Field(default=None, max_length=LIMITS.text)
    controls: dict[str, ControlValue] = Field(default={}, max_length=64)
    seed: int = Field(default=0, ge=0, le=MOST_SEED)
    count: int = Field(default=1, ge=1, le=LIMITS.pictures)
    steps: int | None = Field(default=None, ge=1, le=LIMITS.steps)
    solver: SolverName | None = None
    semantic_scale: float | None = Field(default=None, ge=0, le=MOST_SCALE)
    control_scale: float | None = Field(default=None, ge=0, le=MOST_SCALE)
    start: str | None = Field(default=None, max_length=LIMITS.start_bytes * 4 // 3 + 100)
    strength: float | None = Field(default=None, gt=0, le=1)

    @field_validator("controls")
    @classmethod
    def _short_controls(cls, given: dict[str, str | None]) -> dict[str, str | None]:
        if any(len(name) + len(value or "") > LIMITS.text for name, value in given.items()):
            raise ValueError(f"a control has more than {LIMITS.text} characters")
        return given

    @model_validator(mode="after")
    def _strength_of_something(self) -> PlayRequest:
        if self.strength is not None and self.start is None:
            raise ValueError("strength has no effect without start; needed: a start picture, or no strength")
        return self

    def options(self) -> SampleOptions:
        """Return the request as `ldm sample` takes it. Raises ConfigError for a start picture that is no base64."""
        prompt = (self.prompt,) if self.prompt is not None and self.prompt.strip() else ()
        return SampleOptions(
            prompts=prompt,
            classes=() if self.label is None else (str(self.label),),
            controls=control_texts(self.controls),
            count=self.count,
            seed=self.seed,
            steps=self.steps,
            solver=self.solver,
            semantic_scale=self.semantic_scale,
            control_scale=self.control_scale,
            start=None if self.start is None else start_bytes(self.start),
            strength=self.strength,
        )


@dataclass(frozen=True)
class PlayedPicture:
    """One picture: the bytes of its PNG, and what it was asked for."""

    png: bytes
    seed: int
    shows: str | None
    controls: Mapping[str, str]


@dataclass(frozen=True)
class Played:
    """The pictures of a request, and what was settled for it."""

    model: str
    pictures: tuple[PlayedPicture, ...]
    settings: str
    samples_seen: int
    seconds: float


def play(models: Models, request: PlayRequest, job: Job[Played]) -> Played:
    """Sample what a request asks for, as `ldm sample` does.

    Raises:
        OpenLdmError: The model, the prompt, a control or a number is not known to it; or the job was cancelled.
    """
    started = time.perf_counter()
    run = models.load(request.model)
    if request.label is None and run.recipe.conditioning.semantic.kind == "class":
        raise ConfigError("no class was asked for", needed=nearest("", run.known.facts.class_names))
    options = request.options()
    settings = checked_settings(run, options)
    job.total = steps_of(Sheet((SampleRequest(0),) * request.count), settings)
    samples = sample(run, options, silent=True, on_step=job.tick)
    return Played(request.model, played(samples), settings_of(run, options), run.samples_seen, time.perf_counter() - started)


def played(samples: Samples) -> tuple[PlayedPicture, ...]:
    """Return sampled pictures as PNG files, each with its request."""
    both = zip(samples.images(), samples.requests, strict=True)
    return tuple(PlayedPicture(png_bytes(image), one.seed, one.shows, one.controls) for image, one in both)


def settings_of(run: LoadedRun, options: SampleOptions) -> str:
    """Return solver, steps and guidance in words."""
    settings = checked_settings(run, options)
    scales = settings.guidance
    words = f"{settings.solver}, {counted(settings.steps, 'step')}, semantic scale {scales.semantic_scale:g}"
    return f"{words}, control scale {scales.control_scale:g}"


def start_bytes(text: str) -> bytes:
    """Read a picture's file from base64, or from a data URI. Raises ConfigError for anything else, or one too large."""
    content = text.partition(",")[2] if text.startswith(_START) else text
    try:
        found = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ConfigError("the start picture is no base64", needed="the bytes of a picture file as base64") from error
    if not found or len(found) > LIMITS.start_bytes:
        raise ConfigError(f"the start picture has {len(found):,} bytes", needed=f"1 to {LIMITS.start_bytes:,}")
    return found
