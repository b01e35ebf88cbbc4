"""What becomes of every tensor when a model starts from another: all denoisers, every kind of change."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from functools import lru_cache
from typing import Any

import pytest
import torch
from torch import Tensor

from open_ldm.conditioning import ConditioningConfig
from open_ldm.conditioning.semantic import ClassSemantic, NoSemantic, TextSemantic
from open_ldm.controls import AspectRatio, Flip, OriginalSize, ViewShape
from open_ldm.controls.gate import PowerCosineGate
from open_ldm.core.errors import ConfigError
from open_ldm.denoisers import DenoiserConfig
from open_ldm.denoisers.blocks.positions import GridChange, StoredPositions, positions_on
from open_ldm.model.diffusion import DiffusionModel, build_model
from open_ldm.model.spec import DataFacts, ModelSpec, ProcessConfig
from open_ldm.text import HuggingFaceConfig
from open_ldm.text.text_model import TextModelConfig
from open_ldm.text.words import WordsConfig
from open_ldm.transfer_learning.carry import Carried, carry
from open_ldm.transfer_learning.receipt import ACTIONS, Receipt, as_text
from open_ldm.transfer_learning.semantic import matched_names
from open_ldm.transfer_learning.settings import InitFromConfig
from tests.helpers import DENOISERS, SMALL_WORDS, inputs_for, randn, randomise

KINDS = pytest.mark.parametrize("name", ["dit", "mmdit", "pixart", "mdtv2", "unet"])
CLASSES, WORDS = ("cat", "dog", "eel"), ("a", "blue", "circle", "left", "red", "square")
BY_CLASS = ConditioningConfig(semantic=ClassSemantic(), controls=(OriginalSize(), Flip()))
BY_WORDS = ConditioningConfig(semantic=TextSemantic(encoder=SMALL_WORDS, padding="zero"), controls=(OriginalSize(), Flip()))


def model(
    denoiser: DenoiserConfig, conditioning: ConditioningConfig = BY_CLASS, variance: bool = False, **facts: Any
) -> ModelSpec:
    content: dict[str, Any] = {"class_names": CLASSES, "words": WORDS, "latent_size": (8, 8)}
    return ModelSpec(
        ProcessConfig(learned_variance=variance), conditioning, denoiser, DataFacts(3, ViewShape(8, 8, 64), **content | facts)
    )


def with_channels(side: ModelSpec, channels: int) -> ModelSpec:
    facts = DataFacts(channels, side.facts.view, side.facts.class_names, side.facts.words, side.facts.latent_size)
    return replace(side, facts=facts)


def built(side: ModelSpec, seed: int = 1) -> DiffusionModel:
    """A model in which no two tensors are alike, and none is constant."""
    return copy.deepcopy(_built(side, seed))


@lru_cache
def _built(side: ModelSpec, seed: int) -> DiffusionModel:
    made = randomise(build_model(side, seed), seed)
    with torch.no_grad():
        for number, parameter in enumerate(made.parameters()):
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1000 * seed + number)))
    return made.eval()


def carried(source: ModelSpec, target: ModelSpec, **settings: Any) -> tuple[DiffusionModel, DiffusionModel, Carried]:
    """The source, the new model after the transfer, and what was said of it."""
    there, here = built(source), built(target, seed=2)
    fresh = here.state_dict()
    before = {name: tensor.clone() for name, tensor in fresh.items()}
    done = carry(source, there.state_dict(), target, fresh, InitFromConfig(source="there", **settings))
    assert all(torch.equal(fresh[name], tensor) for name, tensor in before.items()), "the fresh state was changed"
    here.load_state_dict(done.tensors)
    require_whole(done.receipt, there.state_dict(), before)
    return there, here, done


def require_whole(receipt: Receipt, there: dict[str, Tensor], here: dict[str, Tensor]) -> None:
    """Every number of both models is in exactly one entry."""
    for side, tensors in (("source", there), ("target", here)):
        counted = dict.fromkeys(tensors, 0)
        for entry in receipt.entries:
            shape = getattr(entry, side)
            if shape is not None:
                counted[entry.name] += math.prod(shape)
        assert counted == {name: tensor.numel() for name, tensor in tensors.items()}, side
    assert sum(receipt.numbers(action) for action in ACTIONS if action != "dropped") == sum(t.numel() for t in here.values())
    assert Receipt.from_json(receipt.to_json()) == receipt


def fates(done: Carried) -> dict[str, set[str]]:
    """What happened to each tensor."""
    found: dict[str, set[str]] = {}
    for entry in done.receipt.entries:
        found.setdefault(entry.name, set()).add(entry.action)
    return found


def not_kept(done: Carried) -> set[str]:
    return {name for name, actions in fates(done).items() if actions != {"kept"}}


def prediction(made: DiffusionModel, side: int = 8, channels: int = 3, **changes: Any) -> Tensor:
    conditioning = BY_CLASS if changes.pop("by_class", True) else BY_WORDS
    inputs = inputs_for(conditioning, 2, **changes)
    with torch.no_grad():
        return made.predict(randn(2, channels, side, side), torch.tensor([0.3, 0.9]), inputs).mean


@KINDS
@pytest.mark.parametrize("conditioning", [BY_CLASS, BY_WORDS, ConditioningConfig()], ids=["class", "words", "none"])
def test_to_the_same_model_everything_is_kept_bit_for_bit(name: str, conditioning: ConditioningConfig) -> None:
    side = model(DENOISERS[name], conditioning, variance=True)
    there, here, done = carried(side, side)
    old, new = there.state_dict(), here.state_dict()
    assert old.keys() == new.keys() == done.tensors.keys() and all(torch.equal(new[key], old[key]) for key in old)
    assert {entry.action for entry in done.receipt.entries} == {"kept"} and not any(e.reason for e in done.receipt.entries)


@KINDS
def test_class_to_words_changes_what_reads_the_context_and_no_more(name: str) -> None:
    done = carried(model(DENOISERS[name]), model(DENOISERS[name], BY_WORDS))[2]
    assert fates(done)["conditioning.semantic.table.weight"] == {"dropped"}
    assert fates(done)["conditioning.semantic.words.weight"] == {"new"}
    readers = {key for key in not_kept(done) if key.startswith("denoiser.")}
    assert readers and all("context" in key or "attn2" in key or "cross" in key for key in readers), readers
    assert all("classes -> words" in entry.reason for entry in done.receipt.entries if entry.name in readers)
    kept = fates(done)
    assert all(kept[key] == {"kept"} for key in kept if key.startswith(("conditioning.controls", "denoiser.time_emb")))
    back = carried(model(DENOISERS[name], BY_WORDS), model(DENOISERS[name]))[2]
    assert not_kept(back) == not_kept(done)


@KINDS
def test_readers_of_the_context_are_new_even_where_their_shape_stays(name: str) -> None:
    width = DENOISERS[name].modulation_dim
    words = TextSemantic(encoder=WordsConfig(length=6, width=width), padding="zero")
    done = carried(
        model(DENOISERS[name]), model(DENOISERS[name], ConditioningConfig(semantic=words, controls=BY_CLASS.controls))
    )
    readers = [entry for entry in done[2].receipt.entries if entry.name.startswith("denoiser.") and entry.action == "new"]
    assert readers and any(entry.source == entry.target for entry in readers)


@KINDS
def test_another_route_and_no_condition_at_all(name: str) -> None:
    pairs = [
        (BY_CLASS, ConditioningConfig(semantic=ClassSemantic(route="modulation"), controls=BY_CLASS.controls)),
        (BY_CLASS, ConditioningConfig(controls=BY_CLASS.controls)),
        (BY_WORDS, ConditioningConfig(semantic=TextSemantic(encoder=SMALL_WORDS, route="both"), controls=BY_CLASS.controls)),
    ]
    for one, other in pairs:
        for there, here in ((one, other), (other, one)):
            done = carried(model(DENOISERS[name], there), model(DENOISERS[name], here))[2]
            changed = not_kept(done)
            assert any(key.startswith("conditioning.semantic.") for key in changed)
            assert all(entry.reason for entry in done.receipt.entries if entry.action != "kept")
            if isinstance(one.semantic, TextSemantic):
                assert changed == {key for key in changed if "pooled" in key}  # tokens go where they went


def test_classes_are_matched_by_name() -> None:
    target = ("Dog", "fox", "cat", "EEL")
    there, here, done = carried(model(DENOISERS["dit"]), model(DENOISERS["dit"], class_names=target))
    table, old = (made.state_dict()["conditioning.semantic.table.weight"] for made in (here, there))
    assert torch.equal(table[[0, 2, 3, 4]], old[[1, 0, 2, 3]])  # the last row is 'no class'
    fresh = built(model(DENOISERS["dit"], class_names=target), seed=2).state_dict()["conditioning.semantic.table.weight"]
    assert torch.equal(table[1], fresh[1])
    entries = [entry for entry in done.receipt.entries if "table" in entry.name]
    assert [(entry.action, entry.source, entry.target) for entry in entries] == [
        ("kept", (4, 32), (4, 32)),
        ("new", None, (1, 32)),
    ]
    _, anew, done = carried(model(DENOISERS["dit"]), model(DENOISERS["dit"], class_names=target), classes="new")
    reasons = [(entry.action, entry.reason) for entry in done.receipt.entries if "table" in entry.name]
    assert reasons == [("kept", "no class"), ("new", "init_from.classes=new"), ("dropped", "init_from.classes=new")]
    table = anew.state_dict()["conditioning.semantic.table.weight"]
    assert torch.equal(table[:4], fresh[:4]) and torch.equal(table[4], old[3])


@pytest.mark.parametrize(
    ("there", "here", "found"),
    [
        (("cat", "dog"), ("dog", "cat"), [1, 0]),
        (("Cat", "cat"), ("cat", "CAT"), [1, 0]),
        (("Cat", "CAT"), ("cat",), [None]),  # which of the two?
        (("cat",), ("Cat", "CAT"), [None, None]),
        (("cat",), ("cat", "Cat"), [0, None]),
        (("Straße",), ("STRASSE",), [0]),
        ((), ("cat",), [None]),
    ],
)
def test_names_match_one_to_one(there: tuple[str, ...], here: tuple[str, ...], found: list[int | None]) -> None:
    assert matched_names(there, here) == found


def test_words_are_matched_and_places_kept_from_the_start() -> None:
    longer = TextSemantic(encoder=WordsConfig(length=8, width=16), padding="zero")
    target = model(
        DENOISERS["mmdit"], ConditioningConfig(semantic=longer, controls=BY_WORDS.controls), words=("a", "green", "red")
    )
    there, here, _ = carried(model(DENOISERS["mmdit"], BY_WORDS), target)
    old, new = there.state_dict(), here.state_dict()
    words = "conditioning.semantic.words.weight"
    assert torch.equal(new[words][[0, 1, 2, 4]], old[words][[0, 1, 2, 6]])
    assert torch.equal(new["conditioning.semantic.places"][:6], old["conditioning.semantic.places"])
    assert torch.equal(new["denoiser.context_embedding.weight"], old["denoiser.context_embedding.weight"])


def test_rows_of_weights_packed_in_16_bits_come_over_as_the_numbers_they_are() -> None:
    for source, target, table in (
        (BY_CLASS, BY_CLASS, "conditioning.semantic.table.weight"),
        (BY_WORDS, BY_WORDS, "conditioning.semantic.words.weight"),
    ):
        given, wanted = (model(DENOISERS["mmdit"], side) for side in (source, target))
        packed = {name: tensor.bfloat16() for name, tensor in built(given).state_dict().items()}
        done = carry(given, packed, wanted, built(wanted, seed=2).state_dict(), InitFromConfig(source="there"))
        assert done.tensors[table].dtype == torch.float32 and torch.equal(done.tensors[table], packed[table].float())


@pytest.mark.parametrize(
    ("fingerprints", "length", "path", "same"),
    [
        (("one", "one"), 6, "there", True),
        (("one", "two"), 6, "there", False),  # its files were replaced
        (("one", "two"), 8, "there", True),  # the number of places is a part of the fingerprint
        (("one", "one"), 6, "moved", True),
        (("one", "two"), 6, "moved", False),
        (("", "one"), 6, "there", True),
        (("", "one"), 6, "moved", False),
    ],
)
def test_a_text_encoder_is_known_by_its_fingerprint(fingerprints: tuple[str, str], length: int, path: str, same: bool) -> None:
    def side(fingerprint: str, length: int, path: str) -> ModelSpec:
        encoder = HuggingFaceConfig(models=((TextModelConfig(path=path, length=length, width=16),),))
        return model(DENOISERS["mmdit"], ConditioningConfig(semantic=TextSemantic(encoder=encoder)), text_encoder=fingerprint)

    done = carried(side(fingerprints[0], 6, "there"), side(fingerprints[1], length, path))[2]
    assert (fates(done)["denoiser.context_embedding.weight"] == {"kept"}) is same
    reasons = {entry.reason for entry in done.receipt.entries if entry.action == "new"}
    assert reasons == (set() if same else {"another text encoder", "context tokens of another text encoder"})


@KINDS
def test_controls_come_and_go_without_touching_the_rest(name: str) -> None:
    fewer = BY_CLASS.model_copy(update={"controls": (Flip(),)})
    there, here, done = carried(model(DENOISERS[name], BY_CLASS), model(DENOISERS[name], fewer))
    assert not_kept(done) == {key for key in there.state_dict() if "original_size" in key}
    assert all(entry.reason == "control original_size removed" for entry in done.receipt.entries if entry.action == "dropped")
    there, here, done = carried(model(DENOISERS[name], fewer), model(DENOISERS[name], BY_CLASS))
    assert not_kept(done) == {key for key in here.state_dict() if "original_size" in key}


def test_a_control_that_reads_other_numbers_starts_anew_and_another_gate_changes_nothing() -> None:
    plain, log = (ConditioningConfig(controls=(AspectRatio(measure=measure),)) for measure in ("height_over_width", "log"))
    done = carried(model(DENOISERS["pixart"], plain), model(DENOISERS["pixart"], log))[2]
    assert not_kept(done) == {key for key in done.tensors if "aspect_ratio" in key}
    reasons = {entry.reason for entry in done.receipt.entries if entry.action == "new"}
    assert reasons == {"control aspect_ratio reads other numbers: measure height_over_width -> log"}
    gated = ConditioningConfig(controls=(AspectRatio(gate=PowerCosineGate(alpha=8.0)),))
    assert not not_kept(carried(model(DENOISERS["pixart"], log), model(DENOISERS["pixart"], gated))[2])


@KINDS
def test_an_added_control_that_starts_at_zero_changes_no_prediction(name: str) -> None:
    fewer = BY_CLASS.model_copy(update={"controls": (Flip(),)})
    source, target = model(DENOISERS[name], fewer), model(DENOISERS[name], BY_CLASS)
    there, here = built(source), build_model(target, seed=2).eval()
    done = carry(source, there.state_dict(), target, here.state_dict(), InitFromConfig(source="there"))
    here.load_state_dict(done.tensors)
    assert torch.equal(prediction(here), prediction(there))


@KINDS
def test_other_channels_remake_both_ends(name: str) -> None:
    side = model(DENOISERS[name])
    _, here, done = carried(side, with_channels(side, 4))
    ends = not_kept(done)
    assert 2 <= len(ends) <= 4
    assert {entry.reason for entry in done.receipt.entries if entry.name in ends} == {"latent channels 3 -> 4"}
    assert prediction(here, channels=4).shape == (2, 4, 8, 8)


@KINDS
def test_learned_variance_comes_and_goes_and_the_mean_stays(name: str) -> None:
    plain, learned = model(DENOISERS[name]), model(DENOISERS[name], variance=True)
    for source, target, action in ((plain, learned, "new"), (learned, plain, "dropped")):
        there, here, done = carried(source, target)
        torch.testing.assert_close(prediction(here), prediction(there), rtol=1e-5, atol=1e-5)
        assert all(actions == {"kept", action} for key, actions in fates(done).items() if key in not_kept(done))
        assert not_kept(done)


@pytest.mark.parametrize("name", ["dit", "mmdit", "pixart", "mdtv2"])
def test_another_patch_remakes_both_ends(name: str) -> None:
    done = carried(model(DENOISERS[name]), model(DENOISERS[name].model_copy(update={"patch": 4})))[2]
    assert {entry.reason for entry in done.receipt.entries if entry.action == "new"} == {"patch 2 -> 4"}
    assert len([entry for entry in done.receipt.entries if entry.action == "new"]) == 3


@pytest.mark.parametrize("size", [(16, 16), (8, 16), (4, 8)])
@pytest.mark.parametrize("how", ["resample", "bicubic", "extrapolate"])
def test_learned_tables_reach_another_grid(how: GridChange, size: tuple[int, int]) -> None:
    denoiser = DENOISERS["mdtv2"]
    there, here, done = carried(model(denoiser), model(denoiser, latent_size=size), positions=how)
    resampled = {entry.name for entry in done.receipt.entries if entry.action == "resampled"}
    assert resampled == {key for key in there.state_dict() if key.endswith(".values")}
    old, new = there.state_dict()["denoiser.positions.values"], here.state_dict()["denoiser.positions.values"]
    rows, columns = size[0] // 2, size[1] // 2
    if how == "extrapolate":
        both = (slice(0, min(4, rows)), slice(0, min(4, columns)))
        assert torch.equal(new.view(rows, columns, -1)[both], old.view(4, 4, -1)[both])
    else:
        assert torch.equal(here.denoiser.positions((rows, columns)), there.denoiser.positions((rows, columns)))


@pytest.mark.parametrize("how", ["resample", "bicubic"])
def test_tokens_of_a_doubled_grid_know_the_same_distances(how: GridChange) -> None:
    denoiser = DENOISERS["mdtv2"]
    there, here, done = carried(model(denoiser), model(denoiser, latent_size=(16, 16)), positions=how)
    reasons = {entry.reason for entry in done.receipt.entries if "bias.table" in entry.name}
    assert reasons == {f"another grid, offsets of the same distance, {'bilinear' if how == 'resample' else 'bicubic'}"}
    for key in (key for key in there.state_dict() if key.endswith("bias.table.values")):
        old, new = there.state_dict()[key], here.state_dict()[key]
        assert torch.equal(new[:-3].view(15, 15, -1)[1::2, 1::2], old[:-3].view(7, 7, -1)), key
        assert torch.equal(new[-3:], old[-3:])


def test_offsets_keep_their_distance_when_a_bias_table_is_extrapolated() -> None:
    denoiser = DENOISERS["mdtv2"]
    there, here, _ = carried(model(denoiser), model(denoiser, latent_size=(16, 8)), positions="extrapolate")
    key = "denoiser.in_blocks.0.bias.table.values"
    old, new = there.state_dict()[key], here.state_dict()[key]
    offsets_old, offsets_new = old[:-3].view(7, 7, -1), new[:-3].view(15, 7, -1)
    assert torch.equal(offsets_new[7], offsets_old[3])  # no offset
    assert torch.equal(offsets_new[4:11], offsets_old) and torch.equal(new[-3:], old[-3:])


@pytest.mark.parametrize("how", ["resample", "bicubic", "extrapolate"])
def test_a_stored_table_is_interpolated_or_stays(how: GridChange) -> None:
    stored = DENOISERS["dit"].model_copy(update={"positions": StoredPositions(rows=8, columns=8)})
    grown = stored.model_copy(update={"positions": positions_on(stored.positions, (4, 4), (8, 8), how)})
    _, here, done = carried(model(stored), model(grown, latent_size=(16, 16)), positions=how)
    table = here.state_dict()["denoiser.positions.table"]
    assert table.shape == ((8, 8, 32) if how == "extrapolate" else (16, 16, 32))
    assert not_kept(done) == (set() if how == "extrapolate" else {"denoiser.positions.table"})


def test_what_should_carry_over_and_does_not_is_an_error_unless_allowed() -> None:
    deeper = DENOISERS["dit"].model_copy(update={"depth": 3})
    with pytest.raises(
        ConfigError, match=r"do not carry over from there: denoiser\.blocks\.2\.[a-z.]+ \(.*\) is not in the source"
    ):
        carried(model(DENOISERS["dit"]), model(deeper))
    done = carried(model(DENOISERS["dit"]), model(deeper), allow=["denoiser.blocks.2.*"])[2]
    assert not_kept(done) == {key for key in done.tensors if key.startswith("denoiser.blocks.2.")}
    assert {entry.reason for entry in done.receipt.entries if entry.action == "new"} == {"the source has none, allowed"}
    done = carried(model(deeper), model(DENOISERS["dit"]), allow=["denoiser.blocks.2.*"])[2]
    assert {entry.action for entry in done.receipt.entries} == {"kept", "dropped"}
    wider = DENOISERS["dit"].model_copy(update={"width": 64})
    with pytest.raises(ConfigError, match=r"tensors do not carry over from there") as caught:
        carried(model(DENOISERS["dit"]), model(wider))
    assert "is 4x32 there and 4x64 here" in caught.value.problem and "--allow '*'" in caught.value.fix
    with pytest.raises(ConfigError, match=r"allow='nothing\.\*' has no effect"):
        carried(model(DENOISERS["dit"]), model(DENOISERS["dit"]), allow=["nothing.*"])


def test_weights_that_would_mean_something_else_are_refused() -> None:
    dit = model(DENOISERS["dit"])
    for changes, said in (({"heads": 4}, "denoiser.heads=4"), ({"time_frequency_shift": 1}, "time_frequency_shift")):
        with pytest.raises(ConfigError, match=said):
            carried(dit, model(DENOISERS["dit"].model_copy(update=changes)))
    with pytest.raises(ConfigError, match="the source is a dit, the recipe's denoiser a mmdit"):
        carried(dit, model(DENOISERS["mmdit"]))


def test_without_numbers_there_is_still_a_receipt() -> None:
    source, target = model(DENOISERS["mdtv2"]), model(DENOISERS["mdtv2"], BY_WORDS, variance=True, latent_size=(16, 16))
    states = [built(side).state_dict() for side in (source, target)]
    empty = [{key: tensor.to("meta") for key, tensor in state.items()} for state in states]
    settings = InitFromConfig(source="there")
    with_numbers = carry(source, states[0], target, states[1], settings).receipt
    assert carry(source, empty[0], target, empty[1], settings).receipt == with_numbers


def test_blocks_of_equal_fate_share_a_line() -> None:
    side = model(DENOISERS["dit"])
    done = carried(side, model(DENOISERS["dit"], ConditioningConfig(semantic=NoSemantic(), controls=BY_CLASS.controls)))[2]
    rows = {row.name: row for row in done.receipt.rows()}
    assert rows["denoiser.blocks.{0-1}.mlp.fc1.weight"].names == 2
    assert sum(row.names for row in rows.values()) == len(done.receipt.entries)
    text = as_text(done.receipt.rows())
    assert "conditioning.semantic.table.weight" in text and "semantic condition class -> none" in text
    assert "100" not in done.receipt.sentence() or "100.0 %" in done.receipt.sentence()
