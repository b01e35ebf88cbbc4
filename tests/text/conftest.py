from __future__ import annotations

from pathlib import Path

import pytest

from tests.text.tiny_models import bert_folder, clip_folder, t5_folder


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tiny models by name."""
    root = tmp_path_factory.mktemp("text-models")
    return {
        "clip": clip_folder(root / "clip"),
        "whole_clip": clip_folder(root / "whole_clip", whole=True),
        "clip_without_projection": clip_folder(root / "clip_without_projection", projected=False),
        "wide_clip": clip_folder(root / "wide_clip", width=48),
        "t5": t5_folder(root / "t5"),
        "bert": bert_folder(root / "bert"),
    }
