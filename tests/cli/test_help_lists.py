"""Help texts list what the unions hold, and nothing of a list is kept by hand."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from open_ldm.commands.choices import LISTS, kinds_of, members_of
from open_ldm.commands.evaluate.config import AnyMetric, HeldOutMetric
from open_ldm.controls import ControlConfig
from open_ldm.evaluation.features import FeatureConfig
from open_ldm.evaluation.metrics import FIDConfig
from open_ldm.sampling.generate import SolverName
from open_ldm.sampling.solvers import SOLVERS
from open_ldm.sampling.time_grid import Spacing
from tests.cli.conftest import ldm


def test_members_of_nested_unions_are_found_once() -> None:
    members = members_of(AnyMetric)
    assert FIDConfig in members and HeldOutMetric in members and len(set(members)) == len(members)
    assert set(get_args(SolverName)) == set(SOLVERS)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("evaluate", [*kinds_of(AnyMetric), *kinds_of(FeatureConfig)]),
        (
            "sample",
            [*get_args(SolverName), *get_args(Spacing), *(f"{control.option}=" for control in members_of(ControlConfig))],
        ),
    ],
)
def test_help_names_every_member(capsys: Any, command: str, words: list[str]) -> None:
    code, out, _ = ldm(capsys, command, "--help")
    assert code == 0
    assert not [word for word in words if word not in out]
    assert not [name for name in LISTS if f"{{{name}}}" in out]
