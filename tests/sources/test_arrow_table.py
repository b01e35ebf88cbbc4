"""Arrow files with a table are the same data set as without, in every word, number and hash; what does not fit is refused."""

from __future__ import annotations

import io
import json
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from open_ldm.cli.main import main
from open_ldm.commands.data_index import index_data, source_of
from open_ldm.commands.index_arrow import ArrowFiles
from open_ldm.core.errors import DataError
from open_ldm.core.tasks import Task
from open_ldm.data.columns import columns_of
from open_ldm.data.content import content_hash
from open_ldm.data.holdout import HoldoutConfig, divide, select_part
from open_ldm.data.sample import BadPicture
from open_ldm.sources.hub_columns import HubColumns
from open_ldm.sources.huggingface import HuggingFaceConfig, HuggingFaceSource
from open_ldm.sources.listed_rows import ListedRows
from open_ldm.sources.mapped_rows import MappedRows

datasets = pytest.importorskip("datasets")
ipc = pytest.importorskip("pyarrow.ipc")

COUNT, FILES, HOLE = 240, 3, 7


pytestmark = pytest.mark.usefixtures("no_hub")


def png(number: int) -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (8, 9 + number % 2, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def rows(**columns: Any) -> Any:
    """A table with a row without a picture, one that names a file, one without a class, and captions of several kinds."""
    content: dict[str, list[Any]] = {
        "image": [{"bytes": png(number), "path": None} for number in range(COUNT)],
        "label": [None if number == 5 else number % 3 for number in range(COUNT)],
        "text": [[f"picture {number}", "other é"] if number % 2 else [] for number in range(COUNT)],
        "depth": [number / 2 for number in range(COUNT)],
    }
    content["image"][HOLE] = None
    types: dict[str, Any] = {
        "image": datasets.Image(),
        "label": datasets.Value("float32"),  # whole numbers, but for the one that is missing
        "text": datasets.List(datasets.Value("string")),
        "depth": datasets.Value("float32"),
    }
    for name, values in columns.items():
        content[name], types[name] = values, datasets.Value("string" if isinstance(values[0], str) else "int32")
    return datasets.Dataset.from_dict(content, features=datasets.Features(types))


MADE: Mapping[str, Mapping[str, Any]] = {
    "counted": {},
    "named": {"file_name": [f"slide é {number}" for number in range(COUNT)]},
    "repeating names": {"file_name": ["same"] * COUNT},
    "sizes": {"original_height": [40 + number for number in range(COUNT)], "original_width": [50] * COUNT},
}


def saved(folder: Path, **columns: Any) -> Path:
    rows(**columns).save_to_disk(folder, num_shards=FILES)
    return folder


def opened(path: Path, **settings: Any) -> HuggingFaceSource:
    return HuggingFaceConfig(path=str(path), **settings).open()


def indexed(path: Path, **settings: Any) -> HuggingFaceSource:
    config = HuggingFaceConfig(path=str(path), **settings)
    assert index_data(config, silent=True).table is not None
    source = config.open()
    assert isinstance(source._rows, MappedRows)
    return source


def same(mapped: HuggingFaceSource, listed: HuggingFaceSource) -> None:
    """Compare all that two sources say."""
    assert mapped.summary == listed.summary and mapped.class_names == listed.class_names
    for _ in range(2):
        assert (mapped.fingerprint, mapped.hashes) == (listed.fingerprint, listed.hashes)
        mapped._known = ()  # what the table has not stored is computed
    assert mapped.captions() == listed.captions() and list(mapped.columns) == list(listed.columns)
    for name in mapped.columns:
        assert columns_of(mapped)[name].hash == columns_of(listed)[name].hash
    copied = pickle.loads(pickle.dumps(mapped))
    for index in range(len(listed)):
        assert (mapped.sample_id(index), mapped.label_of(index)) == (listed.sample_id(index), listed.label_of(index))
        try:
            sample = listed[index]
        except BadPicture as verdict:
            for read in (mapped.__getitem__, mapped.size_of):
                with pytest.raises(BadPicture, match=str(verdict)):
                    read(index)
            continue
        assert mapped.size_of(index) == listed.size_of(index)
        for other in (mapped[index], copied[index]):
            assert (other.captions, other.attributes, other.file) == (sample.captions, sample.attributes, sample.file)
            assert np.array_equal(other.pixels, sample.pixels)


@pytest.mark.parametrize("kind", MADE)
def test_a_table_changes_nothing_of_the_data(kind: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "set", **MADE[kind])
    listed = opened(path)
    assert isinstance(listed._rows, ListedRows) and len(listed.class_names) == 3
    same(indexed(path), listed)
    assert len(list(path.glob("*.arrow"))) == FILES and len(list(path.glob("data-*.index.safetensors"))) == FILES


@pytest.mark.parametrize("kind", ["parquet", "arrow files", "split"])
def test_every_form_can_have_a_table(kind: str, tmp_path: Path) -> None:
    if kind == "parquet":
        path, split = tmp_path / "set.parquet", None
        rows().to_parquet(path)
    elif kind == "split":
        path, split = tmp_path / "set", "test"
        datasets.DatasetDict({"train": rows().select([1, 2]), "test": rows()}).save_to_disk(
            path, num_shards={"train": 1, "test": 2}
        )
    else:
        path, split = saved(tmp_path / "set"), None
        for name in ("state.json", "dataset_info.json"):
            (path / name).unlink()
    listed = opened(path, split=split)
    same(indexed(path, split=split), listed)
    found = source_of(str(path), [f"split={split}"] if split else [])
    assert isinstance(found, HuggingFaceConfig) and index_data(found, silent=True).written == 0


@pytest.mark.parametrize("empty", [0, 1, 2])
def test_a_file_without_rows_may_lie_anywhere(empty: int, tmp_path: Path) -> None:
    path = tmp_path / "set"
    path.mkdir()
    table = rows().data.table
    parts = [table.slice(0, 100), table.slice(100)]
    parts.insert(empty, table.slice(0, 0))
    for number, part in enumerate(parts):
        with (path / f"train-{number:05d}-of-00003.arrow").open("wb") as file, ipc.new_stream(file, table.schema) as stream:
            stream.write_table(part)
    listed = opened(path)
    assert len(listed) == COUNT
    same(indexed(path), listed)


def test_files_in_several_folders_are_refused_before_any_is_read(tmp_path: Path) -> None:
    for name in ("one", "two"):
        saved(tmp_path / name)
        for file in (tmp_path / name).glob("*.json"):
            file.unlink()
    with pytest.raises(DataError, match="several folders"):
        index_data(HuggingFaceConfig(path=str(tmp_path)), silent=True)
    assert not list(tmp_path.rglob("*.index.safetensors"))


def test_hold_outs_digests_and_sizes_are_read_from_the_sidecars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, holdout = saved(tmp_path / "set"), HoldoutConfig(share=0.3)
    listed = opened(path)
    wanted, hashed = divide(listed, holdout)[0], content_hash(listed)
    of_a_part, sizes = content_hash(select_part(listed, holdout, "train")), [listed.size_of(index) for index in range(8, 40)]
    mapped = indexed(path)
    monkeypatch.setattr(HoldoutConfig, "holds_out", lambda *given: pytest.fail("ids were hashed"))
    monkeypatch.setattr(MappedRows, "cell", lambda *given: pytest.fail("rows were read"))
    assert divide(mapped, holdout)[0].tolist() == wanted.tolist()
    assert content_hash(mapped) == hashed
    part = select_part(mapped, holdout, "train")
    assert content_hash(part) == of_a_part and part.hashes == select_part(mapped, holdout, "train").hashes
    assert [mapped.size_of(index) for index in range(8, 40)] == sizes


def test_starting_reads_the_table_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "set")
    indexed(path)
    # Of a few pictures the header is looked at, whether it is OME-TIFF.
    monkeypatch.setattr("open_ldm.sources.huggingface.with_ome", lambda columns, length, ome_at: columns)
    monkeypatch.setattr("open_ldm.sources.mapped_rows.read_arrow_sidecar", lambda *given: pytest.fail("a sidecar was read"))
    monkeypatch.setattr(datasets, "load_from_disk", lambda *given: pytest.fail("all files were mapped"))
    monkeypatch.setattr(MappedRows, "_open", lambda *given: pytest.fail("a file was opened"))
    source = opened(path)
    assert (len(source), source.summary.captioned, bool(source.fingerprint)) == (COUNT, COUNT // 2, True)


def test_tasks_share_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path / "set", **MADE["named"])
    listed = opened(path)
    first = index_data(HuggingFaceConfig(path=str(path)), Task(1, 2), silent=True)
    assert (first.table, first.written, first.missing) == (None, 2, 1)
    with pytest.raises(SystemExit) as ended:
        main(["data", "index", str(path), "--task", "2/2", "--json"])
    assert ended.value.code == 0
    said = json.loads(capsys.readouterr().out)
    assert said["written"] == 1 and Path(said["table"]).parent == path
    same(opened(path), listed)


def test_a_changed_file_is_refused_by_name_and_then_indexed_again(tmp_path: Path) -> None:
    path = saved(tmp_path / "set")
    source = indexed(path)
    file = sorted(path.glob("*.arrow"))[1]
    status = file.stat()
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    with pytest.raises(DataError, match=rf"{file.name} changed since it was indexed"):
        opened(path)[COUNT // 2]
    assert source.stored_digests(np.arange(COUNT)) is None
    with pytest.raises(DataError, match=rf"{file.name} changed since it was indexed"):
        content_hash(opened(path))
    assert index_data(HuggingFaceConfig(path=str(path)), silent=True).written == 1
    assert opened(path)[COUNT // 2].pixels.shape[0] == 8


def test_a_file_that_changes_while_it_is_indexed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "set")
    found = ArrowFiles(HuggingFaceConfig(path=str(path)))
    os.utime(found.shards[0])
    with pytest.raises(DataError, match="changed while it was indexed"):
        found.write(0, digests=False)


def test_damage_in_a_sidecar_or_the_table_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "set", **MADE["named"])
    indexed(path)
    sidecar = min(path.glob("data-*.index.safetensors"))
    content = sidecar.read_bytes()
    at = content.index("slide é 1".encode())
    sidecar.write_bytes(content[:at] + b"S" + content[at + 1 :])
    source = opened(path)
    assert source.label_of(1) == 1
    with pytest.raises(DataError, match=r"is damaged \(column keys\)"):
        source.sample_id(1)
    table = next(path.glob("shards-*"))
    table.write_bytes(table.read_bytes()[:-1] + b"\xff")
    with pytest.raises(DataError, match=r"\.index\.safetensors is damaged \(its hash of itself"):
        opened(path)
    table.unlink()
    assert isinstance(opened(path)._rows, ListedRows)


def test_pictures_in_files_of_their_own_are_read_for_their_hashes(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    pictures: list[Any] = [{"bytes": png(number), "path": None} for number in range(COUNT)]
    for number in (3, COUNT - 1):
        (tmp_path / "out" / f"{number}.png").write_bytes(png(number))
        pictures[number] = {"bytes": None, "path": str(tmp_path / "out" / f"{number}.png")}
    types = datasets.Features({"image": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}})
    table = datasets.Dataset.from_dict({"image": pictures}, features=types)
    table.save_to_disk(tmp_path / "set", num_shards=FILES)
    listed = opened(tmp_path / "set")
    mapped = indexed(tmp_path / "set")
    assert content_hash(mapped) == content_hash(listed) and mapped._rows.outside == 2
    assert mapped.stored_digests(np.arange(4)) is None and mapped.stored_digests(np.arange(4, 90)) is not None
    assert mapped[COUNT - 1].file == listed[COUNT - 1].file and mapped.size_of(3) == listed.size_of(3)
    before = content_hash(listed)
    (tmp_path / "out" / "3.png").write_bytes(png(1000))
    assert content_hash(opened(tmp_path / "set")) != before
    for number in (3, COUNT - 1):
        (tmp_path / "out" / f"{number}.png").unlink()
    assert len(opened(tmp_path / "set")) == COUNT, "two of 240 are within what may be missing"


def test_other_columns_have_other_tables(tmp_path: Path) -> None:
    path = saved(tmp_path / "set", kind=[number % 2 for number in range(COUNT)])
    indexed(path)
    assert isinstance(opened(path, columns={"label": "kind"})._rows, ListedRows)
    other = indexed(path, columns={"label": "kind"})
    assert other.label_of(3) == 1 and opened(path).label_of(3) == 0, "both keep their sidecars"
    last = max(path.glob("*.arrow"))
    assert isinstance(opened(last)._rows, ListedRows), "a table is of exactly its files"


def test_sizes_are_those_of_the_settings(tmp_path: Path) -> None:
    path = saved(tmp_path / "set")
    indexed(path)
    assert opened(path).size_of(0) == (8, 9)
    with pytest.raises(BadPicture):
        opened(path, max_megapixels=0.00001).size_of(0)


def test_rows_that_are_no_whole_files_get_no_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "set")
    chosen = datasets.load_from_disk(str(tmp_path / "set")).select([3, 1, 2])
    monkeypatch.setattr(datasets, "load_dataset", lambda *given, **settings: datasets.DatasetDict({"train": chosen}))
    with pytest.raises(DataError, match="one after the other"):
        index_data(HuggingFaceConfig(path="owner/set"), silent=True)


def test_a_hub_name_is_indexed_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = datasets.DatasetDict({"train": datasets.load_from_disk(str(saved(tmp_path / "cache")))})
    monkeypatch.setattr(datasets, "load_dataset", lambda *given, **settings: here)
    config = source_of("owner/set", ["kind=huggingface"])
    assert isinstance(config, HuggingFaceConfig)
    listed = config.open()
    result = index_data(config, silent=True)
    assert result.table is not None and result.table.parent == tmp_path / "cache"
    same(config.open(), listed)


def test_the_roles_of_columns_are_part_of_a_sidecar() -> None:
    """Another column, split or first row is another sidecar."""
    from open_ldm.sources.arrow_sidecar import ArrowRules, arrow_sidecar_of

    columns = HubColumns("image", label="a", file_name="name")
    others = [HubColumns("image", label="b", file_name="name"), HubColumns("image", label="a", file_name="other")]
    made = [ArrowRules("train", each, named=True, first=0) for each in (columns, *others)]
    made += [ArrowRules("test", columns, named=True, first=0), ArrowRules("train", columns, named=True, first=4)]
    made += [ArrowRules("train", columns, named=False, first=0)]
    assert len({arrow_sidecar_of(Path("a.arrow"), rules) for rules in made}) == len(made)
