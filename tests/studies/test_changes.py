"""Changes to all arms of a study: they stay apart, and the study keeps what it sets itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from open_ldm.core.errors import ConfigError
from open_ldm.studies.catalogue import study_of
from open_ldm.studies.changes import require_arms_differ
from open_ldm.studies.choice import Choice
from open_ldm.studies.cost import cost_of
from open_ldm.studies.run import Runner
from tests.studies.small import GATE, small_study


@pytest.mark.parametrize(
    ("study", "change", "setting"),
    [
        ("text-padding", "conditioning.semantic.padding=zero", "conditioning.semantic.padding"),
        ("text-padding", "conditioning.semantic={kind: text, padding: zero}", "conditioning.semantic.padding"),
        ("text-padding", "conditioning.semantic={kind: text}", "conditioning.semantic.padding"),
        (
            "size-grid",
            "conditioning.controls.original_size.gate={kind: constant}",
            "conditioning.controls.original_size.gate.kind",
        ),
        ("adam-betas", "training.optimizer={betas: [0.5, 0.9]}", "training.optimizer.betas"),
        ("data-transfer", "training.samples=64", "training.samples"),
        ("resolution-transfer", "data.transform.crop={kind: global}", "data.transform.crop.kind"),  # a start differs
        ("guidance", "sampling.guidance.semantic_scale=5", "sampling.guidance.semantic_scale"),  # in sampling alone
        ("architectures", "denoiser.kind=dit", "denoiser.kind"),
    ],
)
def test_what_arms_differ_in_is_not_changed_for_all(study: str, change: str, setting: str) -> None:
    with pytest.raises(ConfigError, match=f"which differ in {setting}: .*; fix: leave it out") as caught:
        require_arms_differ(study_of(study), "tiny", ["data.workers=0", change])
    told = caught.value.one_line()
    assert told.startswith(change) and "\n" not in told


@pytest.mark.parametrize(
    "change", ["training.seed=5", "name=foo", "init_from=null", "init_from.source=x", "training={seed: 5}"]
)
def test_what_a_study_sets_itself_is_not_given(change: str) -> None:
    for study in ("text-padding", "data-transfer"):
        with pytest.raises(ConfigError, match=r"a study sets .* itself; fix: leave it out"):
            require_arms_differ(study_of(study), "tiny", [change])


def test_checkpoints_at_the_points_that_are_measured_are_the_studys() -> None:
    require_arms_differ(study_of("text-padding"), "tiny", ["training.keep_checkpoints=9"])
    with pytest.raises(ConfigError, match=r"a study sets training\.keep_checkpoints"):
        require_arms_differ(study_of("resolution-transfer"), "tiny", ["training.keep_checkpoints=9"])


@pytest.mark.parametrize(
    "change",
    [
        "sampling.steps=50",
        "sampling.solver=heun",
        "sampling={steps: 50}",
        "sampling.guidance.semantic_scale=3",
        "sampling.guidance={semantic_scale: 3}",
    ],
)
def test_how_a_study_samples_is_not_given(change: str) -> None:
    for study in ("text-padding", "resolution-transfer"):
        with pytest.raises(ConfigError, match=r"this study samples with sampling\..* the recipe says; fix: leave it out"):
            require_arms_differ(study_of(study), "tiny", [change])
    require_arms_differ(study_of("text-padding"), "tiny", ["sampling.batch_size=8", "sampling.guidance.control_scale=2"])


@pytest.mark.parametrize(
    ("study", "changes"),
    [
        ("text-padding", ["training.samples=64", "data.source.length=100"]),
        ("data-transfer", ["training.batch_size=8", "training.optimizer.learning_rate=1e-3", "denoiser.depth=2"]),
        ("data-transfer", ["training.device=cpu", "preview.count=4"]),
        ("adam-betas", ["training.optimizer.learning_rate=1e-3"]),
    ],
)
def test_what_all_arms_have_alike_stays_changeable(study: str, changes: list[str]) -> None:
    require_arms_differ(study_of(study), "tiny", changes)


def test_a_study_and_its_cost_refuse_before_anything_is_there(tmp_path: Path) -> None:
    choice = Choice(overrides=(f"{GATE}={{kind: constant}}",))
    with pytest.raises(ConfigError, match=r"would hold for all arms of shapes, which differ in .*gate\.kind"):
        Runner(small_study(tmp_path), "tiny", tmp_path / "out", choice)
    with pytest.raises(ConfigError, match=r"would hold for all arms of shapes"):
        cost_of(small_study(tmp_path), "tiny", tmp_path / "out", choice)
    assert not (tmp_path / "out").exists()
