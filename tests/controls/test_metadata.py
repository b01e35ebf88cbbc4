"""A column of metadata as a control: its numbers, its categories, what is refused, and how it is asked for."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from open_ldm.conditioning import Conditioning, ConditioningConfig, ConditionInputs
from open_ldm.conditioning.control import CategoryEmbedding, embed_control
from open_ldm.conditioning.semantic import NoSemantic
from open_ldm.controls import Control, ControlConfig, Crop, Metadata, ViewShape
from open_ldm.controls.data import columns_of_controls, fit_controls, require_known_categories, standardised_as, survey_for
from open_ldm.controls.gate import PowerCosineGate
from open_ldm.core.config import flattened, validate
from open_ldm.core.errors import ConfigError, DataError
from open_ldm.core.overrides import apply_overrides
from open_ldm.data.columns import Columns, Given
from open_ldm.model.spec import DataFacts
from open_ldm.sampling.requests import SampleRequest, build_inputs, control_texts
from tests.encoded.cache.small_data import TRANSFORM, Pictures
from tests.helpers import record

VALUES: Mapping[str, Sequence[Any]] = {
    "stain": ["HE", "PAS", None, "HE", "MT", "HE"],
    "magnification": [10.0, 20.0, 40.0, None, 20.0, 80.0],
    "dose": [0.0, -1.0, 2.0, 3.0, None, None],
    "batch": [3, 1, 10, 1, None, 3],
    "texts": ["1.5", "2", None, "4", "8", "1.5"],
    "same": [5, 5, 5, None, 5, 5],
    "empty": [None] * 6,
    "lists": [["a"], ["b"], [], None, ["c"], ["d"]],
    "grain.size um": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
}


def source(values: Mapping[str, Sequence[Any]] = VALUES) -> Pictures:
    pictures = Pictures(6)
    pictures.columns = Columns(values, Given(values))
    return pictures


def view(*controls: Control) -> ViewShape:
    facts = [found for control in controls if (found := control.describe(source())) is not None]
    shape = ViewShape(8, 8, 64, columns=tuple(facts))
    assert ViewShape.from_json(json.loads(json.dumps(shape.to_json()))) == shape
    return shape


def numbers(control: Control, *values: Any) -> list[float]:
    """What the control makes of values of its column."""
    (fitted,) = fit_controls([control], view(control))
    (column,) = control.columns_read
    return [fitted.of(record(columns={column: value}))[0] for value in values]


@pytest.mark.parametrize("scale", ["linear", "log", None])
def test_numbers_are_standardised_by_what_was_recorded(scale: Any) -> None:
    known = np.array([10, 20, 40, 20, 80], dtype=np.float64)
    known = np.log(known) if scale == "log" else known
    control = Metadata(column="magnification", scale=scale)
    made = np.array(numbers(control, 10.0, 20.0, 40.0, 20.0, 80.0))
    assert made == pytest.approx(250 * (known - known.mean()) / known.std())
    assert abs(made.mean()) < 1e-9 and made.std() == pytest.approx(250)
    assert math.isnan(numbers(control, None)[0])
    found = view(control)
    assert (found.columns[0].missing, found.columns[0].pictures) == (1, 6)
    assert control.read("40", found)[0] == pytest.approx(made[2])
    assert control.read("4e1", found) == control.read(" 40.0 ", found)
    assert control.default(found)[0] == pytest.approx(made[1])  # the median is a number that some picture has
    assert control.fitted(found).categories is None


@pytest.mark.parametrize("values", ["auto", None, ("PAS", "HE", "MT")])
def test_categories_are_rows(values: Any) -> None:
    control, order = Metadata(column="stain", values=values), values if isinstance(values, tuple) else ("HE", "MT", "PAS")
    made = numbers(control, "HE", "PAS", "MT", None, "new")
    assert made[:3] == [order.index("HE"), order.index("PAS"), order.index("MT")] and np.isnan(made[3:]).all()
    found = view(control)
    assert found.columns[0].words == order and found.columns[0].usual == "HE"
    assert control.default(found) == control.read("HE", found)
    assert control.fitted(found).categories == 3


def test_a_value_that_is_not_listed_counts_as_missing() -> None:
    control = Metadata(column="stain", values=("HE", "PAS"))
    assert view(control).columns[0].missing == 2
    assert math.isnan(numbers(control, "MT")[0])
    seen = survey_for([control], source())
    assert [problem.split(":")[0] for problem in seen.problems()] == [
        "stain is missing for 1 of 6 pictures",
        "stain has a value that is not listed for 1 of 6 pictures (MT 1)",
    ]


def test_numbers_may_be_categories_and_texts_numbers() -> None:
    batch = Metadata(column="batch", values="auto")
    assert view(batch).columns[0].words == ("1", "3", "10")
    assert numbers(batch, 10.0, 3.0, None)[:2] == [2, 1]
    assert batch.read("3.0", view(batch)) == (1,)
    texts = Metadata(column="texts", scale="linear")
    assert numbers(texts, "4")[0] == pytest.approx(texts.read("4", view(texts))[0])
    assert view(Metadata(column="texts")).columns[0].words  # as JSON gives them they are words


@pytest.mark.parametrize(
    ("control", "said"),
    [
        (Metadata(column="stian"), "the data have no column 'stian'; needed: one of stain, magnification"),
        (Metadata(column="same"), "column 'same' is 5 for all of 5 pictures; needed: pictures that differ in it"),
        (Metadata(column="same", values="auto"), "column 'same' is 5 for all of 5 pictures"),
        (Metadata(column="empty"), "column 'empty' has no number and no word for any of 6 pictures"),
        (Metadata(column="lists"), "column 'lists' has no number and no word for any of 6 pictures"),
        (Metadata(column="stain", scale="log"), "holds words: 'HE', 'MT', 'PAS'; needed: numbers; fix: values: auto"),
        (Metadata(column="dose", scale="log"), "2 of 4 numbers are not above 0, down to -1"),
        (Metadata(column="stain", values=("HE", "GS")), "no picture has GS in column 'stain'; needed: one of HE, MT, PAS"),
    ],
)
def test_what_cannot_be_learned_is_refused_in_one_line(control: Metadata, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        control.check(source(), survey_for([control], source()), TRANSFORM)
    message = str(caught.value)
    assert said in message and "\n" not in message and len(message) < 300


def test_a_column_of_file_names_is_refused() -> None:
    many = {"url": [f"u{index}" for index in range(1200)]}
    with pytest.raises(ConfigError, match="1,200 different values; needed: at most 1,000 categories"):
        Metadata(column="url").describe(source(many))


def test_data_without_metadata_are_named() -> None:
    with pytest.raises(ConfigError, match=r"no column 'stain'; needed: metadata with columns; 6 pictures"):
        Metadata(column="stain").describe(source({}))


@pytest.mark.parametrize(
    ("column", "text", "said"),
    [
        ("stain", "he", "is no value that the model knows; needed: one of HE, MT, PAS (did you mean 'HE'?)"),
        ("stain", "PSA", "needed: one of HE, MT, PAS (did you mean 'PAS'?)"),
        ("magnification", "9", "is outside the range that training saw; needed: a number from 10 to 80"),
        ("magnification", "1e9", "needed: a number from 10 to 80"),
        ("magnification", "twenty", "is no number; needed: a number from 10 to 80"),
        ("magnification", "nan", "is no number"),
    ],
)
def test_a_value_that_the_model_does_not_know_is_refused(column: str, text: str, said: str) -> None:
    control = Metadata(column=column)
    with pytest.raises(ConfigError) as caught:
        control.read(text, view(control))
    assert said in str(caught.value) and f"{column}={text!r}" in str(caught.value)


def test_an_empty_value_leaves_it_open() -> None:
    for control in (Metadata(column="stain"), Metadata(column="magnification")):
        assert math.isnan(control.read("", view(control))[0])


def test_values_to_sweep_are_values_that_it_reads() -> None:
    log, stain = Metadata(column="magnification", scale="log"), Metadata(column="stain")
    found = [log.read(value, view(log))[0] for value in log.examples(view(log))]
    assert np.diff(found) == pytest.approx(np.diff(found)[0], rel=1e-4) and len(found) == 5
    assert log.examples(view(log))[0] == "10" and log.examples(view(log))[-1] == "80"
    assert stain.examples(view(stain)) == ("HE", "MT", "PAS")


def test_recipes_list_several_columns_and_refuse_ambiguity() -> None:
    listed = [
        {"kind": "metadata", "column": "magnification", "scale": "log"},
        {"kind": "metadata", "column": "stain", "values": ["HE", 10]},
        {"kind": "metadata", "column": "grain.size um", "name": "grain"},
        {"kind": "crop"},
    ]
    config = validate(ConditioningConfig, {"controls": listed}, source="test")
    assert [control.asked_as for control in config.controls] == ["magnification", "stain", "grain", "crop"]
    assert config.controls[2].key == "metadata:grain%2Esize%20um"
    assert columns_of_controls(config.controls) == ("magnification", "stain", "grain.size um")
    assert ConditioningConfig.model_validate(config.model_dump(mode="json")) == config
    flat = flattened({"controls": config.model_dump(mode="json")["controls"]})
    assert flat["controls.metadata.magnification.scale"] == "log" and flat["controls.metadata.stain.values"] == ["HE", "10"]
    for wrong, said in (
        ([listed[0], {**listed[0], "name": "m"}], "listed twice"),
        ([{"kind": "metadata", "column": "crop"}, {"kind": "crop"}], "two controls are asked for by crop="),
        ([{"kind": "metadata", "column": "a=b"}], "needed: name"),
        ([{"kind": "metadata", "column": "a", "scale": "log", "values": "auto"}], "needed: one of them"),
        ([{"kind": "metadata", "column": "a", "values": ["x"]}], "two or more"),
        ([{"kind": "metadata"}], "column"),
    ):
        with pytest.raises(ConfigError, match=said):
            validate(ConditioningConfig, {"controls": wrong}, source="test")


def test_an_override_finds_a_control_by_its_column() -> None:
    content = {"controls": [{"kind": "metadata", "column": "stain"}, {"kind": "metadata", "column": "magnification"}]}
    changed = apply_overrides(
        content, ["controls.magnification.scale=log", "controls.stain.values=[HE, 007]"], ConditioningConfig
    )
    assert changed["controls"][1]["scale"] == "log" and changed["controls"][0]["values"] == ["HE", "007"]


def test_a_table_has_a_null_row_and_a_gate() -> None:
    control = Metadata(column="stain", gate=PowerCosineGate(alpha=2.0, clock="time"))
    (fitted,) = fit_controls([control], view(control))
    embedding = embed_control(fitted, 5)
    assert isinstance(embedding, CategoryEmbedding) and embedding.table.weight.shape == (4, 5)
    values, keep = torch.tensor([[0.0], [2.0], [math.nan], [1.0]]), torch.tensor([True, True, True, False])
    assert not embedding(values, keep, torch.zeros(4)).any()  # untrained, it changes nothing
    torch.nn.init.eye_(embedding.out.weight)
    found = embedding(values, keep, torch.zeros(4))
    assert torch.allclose(found, torch.nn.functional.silu(embedding.table.weight[[0, 2, 3, 3]]))
    assert not embedding(values, keep, torch.ones(4)).any()
    found.sum().backward()
    assert embedding.table.weight.grad is not None
    assert embedding.table.weight.grad.abs().sum(dim=1).gt(0).tolist() == [True, False, True, True]


def test_what_may_be_asked_is_told_by_what_was_recorded() -> None:
    stain, log = Metadata(column="stain"), Metadata(column="magnification", scale="log")
    assert stain.asked_form(view(stain)) == "one of HE, MT, PAS; an empty one leaves it open"
    assert log.asked_form(view(log)) == "a number from 10 to 80; an empty one leaves it open"
    assert Crop().asked_form(view()) == Crop.form


def test_values_are_asked_for_as_they_are_typed() -> None:
    given = {"magnification": 40, "dose": 0.25, "flip": True, "turn": 90.0, "stain": "HE", "site": None}
    assert control_texts(given) == {"magnification": "40", "dose": "0.25", "flip": "1", "turn": "90", "stain": "HE"}


def test_requests_ask_for_columns_by_name() -> None:
    controls = (Metadata(column="stain"), Metadata(column="magnification", scale="log"), Crop())
    config, found = ConditioningConfig(controls=controls), view(*controls)
    facts = DataFacts(channels=3, view=found)
    requests = [SampleRequest(0, controls={"stain": "PAS", "magnification": "40"}), SampleRequest(1, controls={"stain": ""})]
    inputs = build_inputs(requests, config, facts)
    assert inputs.controls["metadata:stain"][0] == 2 and inputs.controls["metadata:stain"][1].isnan()
    assert inputs.controls["metadata:magnification"][0].item() == pytest.approx(controls[1].read("40", found)[0], rel=1e-6)
    with pytest.raises(ConfigError, match=r"knows no control 'stains'; needed: one of .* \(did you mean 'stain'\?\)"):
        build_inputs([SampleRequest(0, controls={"stains": "PAS"})], config, facts)
    module = Conditioning(NoSemantic(), fit_controls(controls, found), 4)
    assert module(inputs, torch.zeros(2)).modulation.shape == (2, 4)
    assert isinstance(inputs, ConditionInputs) and set(module.controls) == set(inputs.controls)


def test_a_run_that_goes_on_refuses_categories_that_it_does_not_know() -> None:
    control = Metadata(column="stain")
    before = view(control)
    require_known_categories([control], before, source())
    grown = source({"stain": ["HE", "PAS", "GS", "HE", "MT", "HE"]})
    with pytest.raises(DataError, match=r"values that this run was not started with: GS; needed: the values HE, MT, PAS"):
        require_known_categories([control], before, grown)
    require_known_categories([Metadata(column="stain", values=("HE", "PAS"))], before, grown)


def test_a_model_that_starts_from_another_reads_numbers_as_that_one() -> None:
    linear, log = Metadata(column="magnification"), Metadata(column="magnification", scale="log")
    there = view(linear)
    grown = source({"magnification": [100.0, 200.0, 300.0, None, 100.0, 100.0]})
    here = ViewShape(8, 8, 64, columns=(linear.describe(grown),))
    settled = standardised_as(here, there).columns[0]
    assert (settled.mean, settled.std) == (there.columns[0].mean, there.columns[0].std)
    assert (settled.smallest, settled.largest, settled.missing) == (100, 300, 1)
    other = ViewShape(8, 8, 64, columns=(log.describe(grown),))
    assert standardised_as(other, there) == other


def test_the_kind_is_read_from_plain_data() -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(ControlConfig)
    assert adapter.validate_python({"kind": "metadata", "column": "stain"}) == Metadata(column="stain")
    with pytest.raises(ValidationError):
        adapter.validate_python({"kind": "metadata", "column": ""})
