"""A library of an extra that is not installed is one line with the pip command."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from open_ldm.autoencoders.network import NetworkConfig, build_network
from open_ldm.autoencoders.pretrained import PretrainedConfig, load
from open_ldm.core.extras import MissingExtraError, need
from open_ldm.evaluation.features.transformers_model import load_encoder
from open_ldm.evaluation.features.weights import find_file
from open_ldm.text.text_model import TextModel, TextModelConfig

CASES = {
    "a published autoencoder": (
        "diffusers",
        "autoencoders",
        lambda: load("AutoencoderKL", PretrainedConfig(kind="kl", path="a/b")),
    ),
    "an autoencoder to train": ("diffusers", "autoencoders", lambda: build_network(NetworkConfig(), 0)),
    "a text encoder": (
        "transformers",
        "text",
        lambda: TextModel(TextModelConfig(path="a/b", length=8, width=16), torch.device("cpu"), torch.float32),
    ),
    "features": ("transformers", "text", lambda: load_encoder("a/b", "CLIPModel", 224, "clip", torch.device("cpu"))),
    "a file of the hub": ("huggingface_hub", "text", lambda: find_file("a/b/c.safetensors", "lpips.path")),
}


@pytest.mark.parametrize("case", CASES)
def test_the_message_says_the_command(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    library, extra, act = CASES[case]
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError) as raised:
        act()
    line = raised.value.one_line()
    assert line.startswith(f"{library} is not installed") and line.endswith(f"fix: pip install 'open-ldm[{extra}]'")
    assert raised.value.exit_code == 2 and len(line) <= 300


def test_a_broken_library_is_not_called_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_library.py").write_text("import something_it_needs\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="something_it_needs"):
        need("broken_library", extra="text")


def test_what_is_installed_is_given() -> None:
    assert need("json.decoder", extra="text").JSONDecoder
