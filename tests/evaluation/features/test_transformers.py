from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from open_ldm.core.errors import ConfigError
from open_ldm.evaluation.features import CLIPConfig, DINOv2Config, build_extractor
from open_ldm.evaluation.features.base import Features, ReadsCaptions
from open_ldm.evaluation.pictures import Pictures
from open_ldm.evaluation.statistics import collect
from tests.evaluation.sets import CPU, images

transformers = pytest.importorskip("transformers")
PREPARATION = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
WORDS = ["<|startoftext|>", "<|endoftext|>", "a</w>", "red</w>", "blue</w>", "square</w>"]


@pytest.fixture(scope="module", name="dinov2")
def dinov2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dinov2")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.Dinov2Model(
            transformers.Dinov2Config(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=7)
        )
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPARATION))
    return folder


@pytest.fixture(scope="module", name="clip")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        text_config={**small, "vocab_size": 600, "max_position_embeddings": 9, "bos_token_id": 0, "eos_token_id": 1},
        vision_config={**small, "image_size": 16, "patch_size": 8},
        projection_dim=12,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.CLIPModel(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPARATION))
    letters = [chr(code) for code in range(33, 127)]
    vocabulary = [*WORDS[:2], *letters, *(letter + "</w>" for letter in letters)]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))
    return folder


def test_dinov2_gives_the_models_own_class_token(dinov2: Path) -> None:
    extractor = build_extractor(DINOv2Config(path=str(dinov2), size_px=14), CPU)
    pictures = images(3, 14)
    model = transformers.Dinov2Model.from_pretrained(dinov2).eval()
    mean, std = (torch.tensor(PREPARATION[name]).view(1, 3, 1, 1) for name in ("image_mean", "image_std"))
    with torch.no_grad():
        wanted = model(pixel_values=((pictures + 1) / 2 - mean) / std).last_hidden_state[:, 0]
    found = extractor.extract(pictures)
    torch.testing.assert_close(found.vectors, wanted, rtol=1e-4, atol=1e-5)
    assert found.vectors.shape == (3, extractor.dim) == (3, 16)
    assert not found.vectors[0].allclose(found.vectors[1], atol=1e-3)
    assert "bicubic to 14x14 px" in extractor.id.resize
    assert extractor.extract(images(2, 30)).vectors.shape == (2, 16)


def test_clip_scores_are_cosines_in_the_joint_space(clip: Path) -> None:
    extractor = build_extractor(CLIPConfig(path=str(clip), size_px=16), CPU)
    assert isinstance(extractor, ReadsCaptions)
    pictures, captions = images(3), ("a red square", "a blue square on the left of a red square", "red")
    features = extractor.extract(pictures)
    found = extractor.caption_scores(features, captions)
    turned = extractor.caption_scores(Features(-features.vectors), captions)
    model = transformers.CLIPModel.from_pretrained(clip).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(clip)
    for row, caption in enumerate(captions):
        tokens = tokenizer(caption, truncation=True, max_length=9, return_tensors="pt")
        with torch.no_grad():
            text = model.get_text_features(**tokens).pooler_output[0]
        cosine = float(text @ features.vectors[row] / text.norm() / features.vectors[row].norm())
        assert float(found[row]) == pytest.approx(100 * max(cosine, 0), abs=1e-3)
        assert float(turned[row]) == pytest.approx(100 * max(-cosine, 0), abs=1e-3)
    assert (found + turned > 0).all()


def test_scores_reach_the_statistics(clip: Path) -> None:
    extractor = build_extractor(CLIPConfig(path=str(clip), size_px=16), CPU)
    (found,) = collect([Pictures(images(3), (0, 1, 2), ("red", "a", "blue"))], [extractor])
    scores = extractor.caption_scores(extractor.extract(images(3)), ("red", "a", "blue"))
    assert found.rows.scores is not None
    torch.testing.assert_close(found.rows.scores[found.rows.numbers.argsort()], scores)
    (without,) = collect([Pictures(images(3), (0, 1, 2))], [extractor])
    assert without.rows.scores is None


def test_what_cannot_be_loaded_is_said_in_one_line(dinov2: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no weights"):
        build_extractor(DINOv2Config(path=str(tmp_path)), CPU)
    (tmp_path / "model.safetensors").write_bytes((dinov2 / "model.safetensors").read_bytes())
    with pytest.raises(ConfigError, match="does not say how pictures are prepared"):
        build_extractor(DINOv2Config(path=str(tmp_path)), CPU)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PREPARATION))
    with pytest.raises(ConfigError, match="cannot be loaded"):
        build_extractor(DINOv2Config(path=str(tmp_path)), CPU)
    config = json.loads((dinov2 / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(ConfigError, match=r"lacks \d+ weights of Dinov2Model"):
        build_extractor(DINOv2Config(path=str(tmp_path)), CPU)
