"""A condition that no network would read is refused before anything is built."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, get_args

import pytest
import torch
from torch import Tensor

from open_ldm.conditioning import ConditioningConfig, Conditions
from open_ldm.conditioning.inputs import Slot
from open_ldm.conditioning.semantic import ClassSemantic, NoSemantic, TextSemantic
from open_ldm.controls import Flip
from open_ldm.core.config import validate
from open_ldm.core.errors import ConfigError
from open_ldm.denoisers import Denoiser, DenoiserConfig, Prediction
from open_ldm.denoisers.base import TransformerConfig
from open_ldm.denoisers.blocks.linear import Linear
from open_ldm.model import diffusion
from open_ldm.model.diffusion import build_model
from open_ldm.model.spec import DataFacts, ModelSpec, ProcessConfig
from open_ldm.runs.recipe import Recipe, load_recipe
from tests.helpers import CLASSES, SMALL, SMALL_WORDS, VIEW, WORDS, inputs_for, randn


class ShiftConfig(TransformerConfig):
    """A toy whose network reads the modulation alone."""

    reads_slots: ClassVar[frozenset[Slot]] = frozenset({"modulation"})

    kind: Literal["shift"] = "shift"


class MuteConfig(TransformerConfig):
    """A toy whose network reads no condition."""

    reads_slots: ClassVar[frozenset[Slot]] = frozenset()

    kind: Literal["mute"] = "mute"


class Shift(Denoiser):
    """x_t plus a number for each picture."""

    def __init__(self, config: ShiftConfig) -> None:
        super().__init__()
        self.linear = Linear(config.modulation_dim, 1)

    def forward(self, x_t: Tensor, time: Tensor, conditions: Conditions) -> Prediction:
        return Prediction(x_t + self.linear(conditions.modulation)[:, :, None, None])


class ShiftRecipe(Recipe):
    """Any recipe, of the toy."""

    denoiser: ShiftConfig  # type: ignore[assignment]


TEXT = {"encoder": SMALL_WORDS}
CONTEXT: list[Any] = [ClassSemantic(route="context"), TextSemantic(**TEXT, route="context"), TextSemantic(**TEXT, route="both")]
OTHERS: list[Any] = [NoSemantic(), ClassSemantic(route="modulation"), TextSemantic(**TEXT, route="modulation")]


def spec(semantic: Any, denoiser: Any, **more: Any) -> ModelSpec:
    facts = DataFacts(3, VIEW, CLASSES, WORDS, latent_size=(8, 8))
    return ModelSpec(ProcessConfig(), ConditioningConfig(semantic=semantic, **more), denoiser, facts)


@pytest.mark.parametrize("semantic", CONTEXT, ids=lambda config: f"{config.kind} {config.route}")
def test_a_context_that_the_network_does_not_read_is_refused(semantic: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        spec(semantic, ShiftConfig(**SMALL))
    assert str(caught.value) == (
        f"denoiser.kind=shift reads no context, where conditioning.semantic.route={semantic.route} puts a condition;"
        " needed: a denoiser that reads the context; fix: conditioning.semantic.route=modulation"
    )


@pytest.mark.parametrize("more", [{"semantic": ClassSemantic(route="modulation")}, {"controls": (Flip(),)}])
def test_a_modulation_that_the_network_does_not_read_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="kind=mute reads no modulation, where conditioning"):
        spec(**({"semantic": NoSemantic(), "denoiser": MuteConfig(**SMALL)} | more))
    assert spec(NoSemantic(), MuteConfig(**SMALL)).context_dim is None


@pytest.mark.parametrize("semantic", OTHERS, ids=lambda config: config.kind)
def test_a_modulation_that_it_reads_acts_on_the_prediction(semantic: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diffusion, "build_denoiser", lambda config, slots: Shift(config))
    model = build_model(spec(semantic, ShiftConfig(**SMALL), controls=(Flip(),)), seed=0)
    inputs = inputs_for(model.spec.conditioning, 2)
    found = model.predict(randn(2, 3, 8, 8), torch.full((2,), 0.5), inputs).mean - randn(2, 3, 8, 8)
    assert found.shape == (2, 3, 8, 8) and bool(found.any())


def test_a_recipe_is_refused_in_the_same_line() -> None:
    content = load_recipe("demo").model_dump(mode="json") | {"denoiser": {"kind": "shift", **SMALL}}
    with pytest.raises(ConfigError, match="kind=shift reads no context") as caught:
        validate(ShiftRecipe, content, source="test")
    assert "\n" not in str(caught.value) and "conditioning.semantic.route=modulation" in str(caught.value)
    semantic = {"kind": "class", "route": "modulation"}
    content["conditioning"] = {**content["conditioning"], "semantic": semantic}
    assert validate(ShiftRecipe, content, source="test").conditioning.semantic == ClassSemantic(route="modulation")


def test_every_denoiser_declares_the_slots_that_it_reads() -> None:
    kinds = get_args(get_args(DenoiserConfig)[0])
    assert len(kinds) >= 5
    assert all(config.reads_slots <= set(get_args(Slot)) and config.reads_slots for config in kinds)
