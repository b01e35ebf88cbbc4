"""Controls of metadata in another model: categories by name, numbers that mean the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from open_ldm.conditioning import ConditioningConfig
from open_ldm.controls import Flip, Metadata, ViewShape
from open_ldm.controls.column_facts import ColumnFacts
from open_ldm.controls.data import standardised_as
from open_ldm.model.diffusion import build_model
from open_ldm.model.spec import DataFacts, ModelSpec, ProcessConfig
from open_ldm.transfer_learning.carry import Carried, carry
from open_ldm.transfer_learning.settings import InitFromConfig
from tests.helpers import SMALL_DIT, randomise

STAIN, MAGNIFICATION = "conditioning.controls.metadata:stain.", "conditioning.controls.metadata:magnification."


def facts(*words: str, mean: float = 3.0, scale: str = "log") -> tuple[ColumnFacts, ColumnFacts]:
    numbers = ColumnFacts("magnification", 9, 0, scale=scale, mean=mean, std=0.5, smallest=10, median=20, largest=40)
    return ColumnFacts("stain", 9, 0, words=words, usual=words[0]), numbers


def spec(columns: tuple[ColumnFacts, ...], **changes: Any) -> ModelSpec:
    controls = (Metadata(column="stain", **changes), Metadata(column="magnification"), Flip())
    view = ViewShape(8, 8, 64, columns=columns)
    config = ConditioningConfig(controls=controls)
    return ModelSpec(ProcessConfig(), config, SMALL_DIT, DataFacts(3, view, latent_size=(8, 8)))


def carried(source: ModelSpec, target: ModelSpec) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], Carried]:
    there, here = (randomise(build_model(side, seed), seed).state_dict() for seed, side in enumerate((source, target)))
    return there, here, carry(source, there, target, here, InitFromConfig(source="there"))


def test_categories_are_matched_by_name_and_the_null_row_is_kept() -> None:
    there, here, done = carried(spec(facts("HE", "MT", "PAS")), spec(facts("GS", "HE", "pas")))
    before, fresh, after = (tensors[f"{STAIN}table.weight"] for tensors in (there, here, done.tensors))
    assert torch.equal(after, torch.stack([fresh[0], before[0], before[2], before[3]]))
    said = {(entry.action, entry.reason) for entry in done.receipt.entries if entry.name.startswith(STAIN)}
    assert ("kept", "values of stain known to both") in said and ("new", "values of stain the source does not know") in said
    assert ("dropped", "values of stain not known here") in said
    assert torch.equal(done.tensors[f"{MAGNIFICATION}hidden.weight"], there[f"{MAGNIFICATION}hidden.weight"])


def test_equal_columns_are_kept_whole_whatever_they_are_called() -> None:
    there, _, done = carried(spec(facts("HE", "PAS")), spec(facts("HE", "PAS"), name="dye", values=("HE", "PAS")))
    assert all(torch.equal(done.tensors[name], there[name]) for name in there)
    assert {entry.action for entry in done.receipt.entries} == {"kept"}


def test_numbers_that_mean_something_else_start_anew_unless_they_are_read_as_there() -> None:
    source, other = spec(facts("HE", "PAS")), spec(facts("HE", "PAS", mean=4.0))
    there, here, done = carried(source, other)
    name = f"{MAGNIFICATION}hidden.weight"
    assert torch.equal(done.tensors[name], here[name])
    why = next(entry.reason for entry in done.receipt.entries if entry.name == name and entry.action == "new")
    assert why == "control metadata:magnification reads other numbers: mean 3.0 -> 4.0"
    settled = replace(other, facts=replace(other.facts, view=standardised_as(other.facts.view, source.facts.view)))
    there, _, done = carried(source, settled)
    assert torch.equal(done.tensors[name], there[name])


def test_a_column_of_numbers_that_becomes_categories_starts_anew() -> None:
    numbers = facts("HE", "PAS")
    words = (numbers[0], ColumnFacts("magnification", 9, 0, words=("10", "20"), usual="10"))
    _, here, done = carried(spec(numbers), spec(words))
    assert torch.equal(done.tensors[f"{MAGNIFICATION}table.weight"], here[f"{MAGNIFICATION}table.weight"])
    assert f"{MAGNIFICATION}hidden.weight" not in done.tensors
