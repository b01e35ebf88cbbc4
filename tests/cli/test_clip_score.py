"""CLIP score by `ldm evaluate`, from a folder that transformers wrote, against transformers' own computation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from open_ldm.commands.evaluate.config import EvaluationConfig
from open_ldm.commands.evaluate.pictures import SampledPictures, open_evaluated
from open_ldm.evaluation.features.resize import pillow_bicubic
from tests.cli.conftest import ldm
from tests.evaluation.tiny_clip import SIDE_PX, save_tiny_clip
from tests.helpers import randn

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_clip(tmp_path_factory.mktemp("clip"))


def their_score(clip: Path, pictures: list[Image.Image], captions: list[str]) -> float:
    """Mean of 100 max(cosine, 0): what transformers' CLIPModel and CLIPProcessor give, its learned scale taken out."""
    model = transformers.CLIPModel.from_pretrained(clip).eval()
    processor = transformers.CLIPProcessor.from_pretrained(clip)
    given = processor(text=captions, images=pictures, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        found = model(**given)
    cosines = found.logits_per_image.diagonal() / model.logit_scale.exp()
    assert float(cosines.detach().std()) > 0.01  # pictures and captions differ
    return float(100 * cosines.detach().clamp(min=0).mean())


def pictures_of(pixels: Tensor) -> list[Image.Image]:
    return [Image.fromarray(one.permute(1, 2, 0).numpy()) for one in pixels]


def test_samples_of_a_run_with_the_captions_of_its_data(clip: Path, text_run: Path, tmp_path: Path, capsys: Any) -> None:
    options = (
        "--metrics",
        "clip_score",
        "--extractor",
        clip,
        "--n",
        12,
        "--cache",
        tmp_path / "cache",
        "--out",
        tmp_path,
        "--json",
    )
    code, out, error = ldm(capsys, "evaluate", text_run, *options)
    assert code == 0, error
    (result,) = json.loads(out)["results"]
    evaluated = open_evaluated(text_run, EvaluationConfig(metrics=("clip_score",), n=12), None, "train", "cpu")
    assert isinstance(evaluated, SampledPictures)
    captions = [evaluated.request(seed).shows or "" for seed in range(12)]
    wanted = their_score(clip, pictures_of(evaluated.pixels(range(12))), captions)
    assert result["value"] == pytest.approx(wanted, abs=1e-3) and result["value"] > 0
    assert result["low"] < result["value"] < result["high"] and result["count"] == 12
    passport = result["passport"]
    assert passport["extractor.name"].startswith("clip CLIPModel") and f"to {SIDE_PX} px" in passport["extractor.resize"]
    assert passport["sampling.conditions"].startswith("text ")


def test_stored_pictures_with_captions_beside_them(clip: Path, tmp_path: Path, capsys: Any) -> None:
    """Neither square nor of CLIP's size: the shorter side is resized and the middle cut out, as transformers does."""
    pixels = (randn(9, 3, 31, 40).sigmoid() * 255).to(torch.uint8)
    captions = [f"picture {'abcdefghi'[number]} of {number} things" for number in range(9)]
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, picture in enumerate(pictures_of(pixels)):
        picture.save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(captions[number])
    code, out, error = ldm(capsys, "evaluate", folder, "--metrics", "clip_score", "--extractor", clip, "--json")
    assert code == 0, error
    (result,) = json.loads(out)["results"]
    assert result["value"] == pytest.approx(their_score(clip, pictures_of(pixels), captions), abs=1e-3)
    turned = [*captions[1:], captions[0]]
    assert abs(result["value"] - their_score(clip, pictures_of(pixels), turned)) > 0.01


@pytest.mark.parametrize("size", [(24, 24), (31, 40), (64, 33), (16, 16), (100, 25)])
def test_pictures_are_prepared_to_the_bit_as_transformers_does(size: tuple[int, int]) -> None:
    pixels = (randn(2, 3, *size).sigmoid() * 255).to(torch.uint8)
    edges = {"size": {"shortest_edge": SIDE_PX}, "crop_size": {"height": SIDE_PX, "width": SIDE_PX}}
    own = transformers.CLIPImageProcessorPil(**edges, do_normalize=False, do_rescale=False)
    wanted = own(pictures_of(pixels), return_tensors="np")["pixel_values"]
    found = pillow_bicubic(pixels, SIDE_PX).numpy()
    assert found.dtype == np.uint8 and np.array_equal(found, wanted.astype(np.uint8))
