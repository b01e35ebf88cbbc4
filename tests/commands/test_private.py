"""What an exported folder must not say of the machine that made it."""

from __future__ import annotations

import json
from pathlib import Path

from open_ldm.commands.export.private import leave_out_places, without_places


def test_places_are_left_out_and_all_else_stays() -> None:
    recipe = {
        "init_from": {"source": "runs/hospital-x"},
        "data": {"source": {"kind": "folder", "path": "pictures", "columns": ["stain"]}},
        "cached": {"path": "s3://b", "remote": {"folder": "kept"}},
        "autoencoder": {"path": "", "note": "/data/models/vae", "remote": "x"},
        "prompts": ["a/b", "~", "/", "50 % / 50 %"],
    }
    assert without_places(recipe, "not exported") == {
        "init_from": None,
        "data": {"source": {"kind": "folder", "path": "not exported", "columns": ["stain"]}},
        "cached": {"path": "not exported"},
        "autoencoder": {"path": "", "note": "not exported", "remote": "x"},
        "prompts": ["a/b", "~", "/", "50 % / 50 %"],
    }


def test_tokens_of_a_tokenizer_stay(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer_config.json"
    file.write_text(json.dumps({"added": ["~", "/", "./"], "name_or_path": "models/t5"}))
    leave_out_places(tmp_path)
    assert json.loads(file.read_text()) == {"added": ["~", "/", "./"], "name_or_path": ""}
