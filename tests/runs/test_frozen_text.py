"""A run on tokens of a frozen text encoder: trained, killed, gone on with, sampled, and refused with another encoder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from open_ldm.commands.dry_run import dry_run
from open_ldm.commands.encode import encode
from open_ldm.core.errors import CheckpointError, ConfigError, DataError
from open_ldm.data.survey import survey
from open_ldm.runs.build import read_facts
from open_ldm.runs.encoders import load_text_encoder, remember_tokens
from open_ldm.runs.load import load_run
from open_ldm.runs.recipe import Recipe, load_recipe
from open_ldm.runs.train import train
from open_ldm.sampling.requests import SampleRequest
from open_ldm.sources.loader import open_data
from open_ldm.text import HuggingFaceEncoder
from open_ldm.text.remembered import RememberingEncoder
from tests.runs.test_resume import finish, hashes, kill_at
from tests.runs.tiny import losses, tiny_recipe
from tests.started import preload, start
from tests.text.tiny_models import bert_folder

preload("transformers.models.bert.modeling_bert", "transformers.models.auto.tokenization_auto")  # seconds of each process


def semantic(path: object, **changes: Any) -> str:
    model = {"path": str(path), "length": 8, "width": 24, "pooled": "mean"}
    content = {"kind": "text", "route": "both", "encoder": {"kind": "huggingface", "models": [[model]]}, **changes}
    return f"conditioning.semantic={json.dumps(content)}"


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bert_folder(tmp_path_factory.mktemp("bert") / "bert")


def recipe(folder: Path, bert: Path, *overrides: str) -> Recipe:
    short = ["training.samples=8", "training.checkpoint_every_samples=8", "training.preview_every_samples=0", "preview.count=2"]
    return load_recipe(str(tiny_recipe(folder)), [semantic(bert), *short, *overrides])


@pytest.mark.timeout(600)
def test_a_killed_run_ends_bit_equal(bert: Path, tmp_path: Path) -> None:
    arguments = ["train", str(tiny_recipe(tmp_path)), semantic(bert)]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish([*arguments, "--out", str(whole)])
    process = start([*arguments, "--out", str(broken)])
    assert kill_at(process, broken, 52)
    finish([*arguments, "--out", str(broken)])
    assert losses(broken) == losses(whole) and len(losses(whole)) == 24
    assert hashes(broken) == hashes(whole)
    events = (broken / "events.jsonl").read_text()
    assert '"bitwise": "yes"' in events and '"transformers"' in events


def test_a_run_remembers_its_encoder_wherever_it_lies(bert: Path, tmp_path: Path) -> None:
    moved, run = Path(shutil.copytree(bert, tmp_path / "bert")), tmp_path / "run"
    assert train(recipe(tmp_path, moved), run, silent=True).code == 0
    captions = json.loads((run / "data.json").read_text())["survey"]["captions"]
    assert captions["without"] == 0 and captions["pictures"] == 50
    assert 0 < captions["cut"] <= captions["examined"]  # 'a large red circle on the left' and its marks are nine tokens
    assert "are cut" in (run / "events.jsonl").read_text()
    loaded = load_run(run)
    inputs = loaded.build_inputs([SampleRequest(0, "a red circle"), SampleRequest(1)])
    assert inputs.text is not None and inputs.text.tokens.shape == (2, 8, 24) and inputs.text.pooled is not None
    assert inputs.text.mask.sum(dim=1).tolist() == [5, 0]

    elsewhere = tmp_path / "elsewhere"
    moved.rename(elsewhere)
    longer = recipe(tmp_path, elsewhere, "training.samples=16")
    assert train(longer, run, silent=True).samples_seen == 16  # another path to the same content is the same run

    network = transformers.BertModel.from_pretrained(elsewhere)
    with torch.no_grad():
        network.embeddings.word_embeddings.weight[0] += 1
    network.save_pretrained(elsewhere)
    with pytest.raises(CheckpointError, match="trained with"):
        load_run(run)
    with pytest.raises(CheckpointError, match="trained with"):
        train(recipe(tmp_path, elsewhere, "training.samples=24"), run, silent=True)


def test_other_settings_of_the_encoder_are_another_run(bert: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(recipe(tmp_path, bert), run, silent=True)
    with pytest.raises(ConfigError, match="was started with"):
        train(load_recipe(str(run), ["conditioning.semantic.encoder.models.0.0.layer=-2"]), run, silent=True)


def test_captions_are_remembered_when_all_fit(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from open_ldm.core.device import set_up_machine

    resolved = recipe(tmp_path, bert)
    source, machine = open_data(resolved.data), set_up_machine("cpu", "float32")
    encoder = load_text_encoder(resolved, read_facts(resolved, source, survey(source)), machine)
    assert encoder is not None
    assert isinstance(remember_tokens(encoder, resolved, source), RememberingEncoder)
    monkeypatch.setattr("open_ldm.runs.encoders._REMEMBERED_BYTES", 4 * 8 * 24 * (len(set(source.captions())) - 1))
    assert remember_tokens(encoder, resolved, source) is encoder


def test_a_recipe_is_counted_without_its_encoder(tmp_path: Path) -> None:
    counted = dry_run(load_recipe(str(tiny_recipe(tmp_path)), [semantic("not/there", null_kind="table")]))
    without = dry_run(load_recipe(str(tiny_recipe(tmp_path)), [semantic("not/there", null_kind="zeros")]))
    assert counted.parameters - without.parameters == 8 * 24 + 24
    assert counted.gmacs > 0


@pytest.mark.parametrize(("stored", "here"), [("bfloat16", "float32"), ("float32", "bfloat16")])
def test_captions_that_were_encoded_in_another_precision_are_told_with_both(
    stored: str, here: str, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_cache = recipe(tmp_path, bert, "data.views=1", f"cache={{path: {tmp_path}/cache}}")
    really = HuggingFaceEncoder.__init__

    def computing(self: HuggingFaceEncoder, *given: Any) -> None:
        really(self, *given)
        self.computed_in = precision[0]  # as on another device, which this machine may not have

    precision = [stored]
    monkeypatch.setattr(HuggingFaceEncoder, "__init__", computing)
    encode(with_cache, silent=True)
    precision[0] = here
    frozen = recipe(tmp_path, bert, "data.views=1", f"cache={{path: {tmp_path}/cache, frozen: true}}")
    with pytest.raises(DataError) as caught:
        train(frozen, tmp_path / "run", silent=True)
    said = caught.value.one_line()
    assert f"were encoded in {stored}" in said and f"encode them in {here}" in said, said
    assert ("training.dtype=float32" if stored == "float32" else "training.dtype=bf16") in caught.value.fix


@pytest.mark.parametrize("setting", ["latents", "tokens"])
def test_a_cache_in_another_number_format_is_told_with_the_setting(setting: str, bert: Path, tmp_path: Path) -> None:
    given = recipe(tmp_path, bert, "data.views=1", f"cache={{path: {tmp_path}/cache, {setting}: bfloat16}}")
    encode(given, silent=True)
    asked = recipe(tmp_path, bert, "data.views=1", f"cache={{path: {tmp_path}/cache, {setting}: float32, frozen: true}}")
    with pytest.raises(
        DataError, match=rf"{setting} in cache .* stored as bfloat16.*cache\.{setting}=float32.*fix: cache\.{setting}=bfloat16"
    ):
        train(asked, tmp_path / "run", silent=True)
