"""What `--only` chooses of a study."""

from __future__ import annotations

from itertools import combinations

import pytest

from open_ldm.core.errors import ConfigError
from open_ldm.studies.catalogue import STUDIES, study_of
from open_ldm.studies.choice import Choice, require_known


def chosen(*only: str) -> list[tuple[str, str]]:
    study = study_of("control-parametrisation")
    return [
        (setting.name, arm)
        for setting in study.settings("small")
        for arm in setting.arms
        if Choice(only).takes(study, setting, arm)
    ]


def test_a_setting_or_an_arm_or_both_can_be_named() -> None:
    photographs = [("photographs", arm) for arm in ("constant", "alpha 2", "alpha 8 on t")]
    assert chosen("photographs") == photographs
    assert chosen("constant") == [("drawings", "constant"), photographs[0]]
    assert chosen("photographs", "alpha 2") == [photographs[1]]
    assert chosen("alpha 2", "alpha 4") == [("drawings", "alpha 2"), ("drawings", "alpha 4"), photographs[1]]
    assert len(chosen()) == 17


def test_names_that_mean_nothing_or_nothing_together_are_refused() -> None:
    study = study_of("control-parametrisation")
    with pytest.raises(ConfigError, match=r"no arm or setting 'photograph' at scale small.*photographs"):
        require_known(study, "small", ["photograph"])
    with pytest.raises(ConfigError, match="no arm or setting 'photographs' at scale tiny"):
        require_known(study, "tiny", ["photographs"])
    with pytest.raises(ConfigError, match="no setting has what --only names: photographs, alpha 4"):
        require_known(study, "small", ["photographs", "alpha 4"])


def test_no_arm_is_called_like_a_setting() -> None:
    for study in STUDIES.values():
        settings = {each.name for of_scale in study.scales.values() for each in of_scale}
        arms = {arm for of_scale in study.scales.values() for each in of_scale for arm in each.arms}
        assert not settings & arms
        assert all(each.name != other.name for of_scale in study.scales.values() for each, other in combinations(of_scale, 2))
