"""Indexing a set again removes what was written for its earlier states, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from open_ldm.commands.data_index import IndexResult, index_data
from open_ldm.sources.huggingface import HuggingFaceConfig
from open_ldm.sources.sidecar import SUFFIX
from tests.sources.test_arrow_table import COUNT, opened, rows

datasets = pytest.importorskip("datasets")
pytestmark = pytest.mark.usefixtures("no_hub")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two arrow files, train-1 and train-2, of 160 and 80 rows."""
    made = rows(kind=["a", "b"] * (COUNT // 2))
    made.select(range(160)).flatten_indices().save_to_disk(tmp_path / "first")
    made.select(range(80)).flatten_indices().save_to_disk(tmp_path / "second")
    (place := tmp_path / "set").mkdir()
    for number, name in ((1, "first"), (2, "second")):
        (file,) = (tmp_path / name).glob("*.arrow")
        file.rename(place / f"train-{number}.arrow")
    return place


def index(path: Path, **settings: object) -> IndexResult:
    return index_data(HuggingFaceConfig.model_validate({"path": str(path), **settings}), silent=True)


def written(folder: Path) -> set[str]:
    return {path.name for path in folder.glob(f"*{SUFFIX}")}


def test_what_earlier_states_left_is_removed_and_counted(folder: Path) -> None:
    assert index(folder).removed == 0
    first = written(folder)
    assert len(first) == 3 and index(folder).removed == 0 and written(folder) == first
    (folder / "train-0.arrow").write_bytes((folder / "train-2.arrow").read_bytes())  # all others start later now
    grown = index(folder)
    assert (grown.written, grown.removed) == (3, 3) and len(written(folder)) == 4 and not first & written(folder)
    assert grown.text().endswith("; 3 files of earlier states of the set were removed") and grown.to_json()["removed"] == 3
    assert len(opened(folder)) == 320
    (folder / "train-0.arrow").unlink()
    assert index(folder).removed == 4 and written(folder) == first


def test_other_settings_other_sets_and_other_files_stay(folder: Path) -> None:
    index(folder)
    mine = written(folder)
    index(folder, columns={"label": "kind"})
    other = written(folder) - mine
    assert len(other) == 3 and index(folder).removed == 0
    alone = index(folder / "train-1.arrow")  # its sidecar is that of the folder, as long as it is the first file
    assert alone.written == 0 and alone.table is not None
    names = ["notes.index.safetensors", "train-1.0a.index.safetensors", "train-1.index.safetensors"]
    for name in names:
        (folder / name).write_bytes(b"of someone else")
    (copied,) = (name for name in mine if name.startswith("train-2"))
    (folder / "copy.0a0b0c0d.index.safetensors").write_bytes((folder / copied).read_bytes())  # not the name of a sidecar

    (folder / "train-0.arrow").write_bytes((folder / "train-2.arrow").read_bytes())
    before = written(folder)
    assert index(folder).removed == 2 + 2, "the table and the sidecar of train-2, under either setting"
    left = before & written(folder)
    assert {*names, "copy.0a0b0c0d.index.safetensors", alone.table.name} < left
    assert len(opened(folder / "train-1.arrow")) == 160 and index(folder / "train-1.arrow").written == 0


def test_what_does_not_say_its_set_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("open_ldm.commands.index_arrow.name_of_set", lambda *given: ())
        index(folder)
    first = written(folder)
    (folder / "train-0.arrow").write_bytes((folder / "train-2.arrow").read_bytes())
    assert index(folder).removed == 0 and first < written(folder)


def test_a_moved_set_is_the_same_one(folder: Path, tmp_path: Path) -> None:
    index(folder)
    moved = folder.rename(tmp_path / "moved")
    (moved / "train-0.arrow").write_bytes((moved / "train-2.arrow").read_bytes())
    assert index(moved).removed == 3
