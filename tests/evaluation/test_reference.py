from __future__ import annotations

import json
from pathlib import Path

import pytest

from open_ldm.core.errors import DataError
from open_ldm.evaluation.measure import measure
from open_ldm.evaluation.metrics import KIDConfig
from open_ldm.evaluation.reference import load_statistics, save_statistics
from open_ldm.evaluation.statistics import collect
from tests.evaluation.sets import batches, images, small_extractor


def test_statistics_come_back_as_they_were(tmp_path: Path) -> None:
    samples, reference = (collect(batches(images(20, seed=seed), 8), [small_extractor()])[0] for seed in (1, 2))
    save_statistics(tmp_path, reference)
    loaded = load_statistics(tmp_path)
    assert loaded.pictures == reference.pictures
    assert loaded.pictures.hash == json.loads((tmp_path / "statistics.json").read_text())["hash"]
    assert loaded.moments.scatter.equal(reference.moments.scatter)
    assert loaded.rows.probabilities is not None
    assert loaded.rows.scores is None
    assert measure([KIDConfig()], samples, loaded) == measure([KIDConfig()], samples, reference)


def test_damaged_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no usable statistics"):
        load_statistics(tmp_path)
    save_statistics(tmp_path, collect(batches(images(20), 8), [small_extractor()])[0])
    file = tmp_path / "statistics.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"is not the file that statistics\.json describes"):
        load_statistics(tmp_path)
    file.unlink()
    with pytest.raises(DataError, match="holds no usable statistics"):
        load_statistics(tmp_path)
