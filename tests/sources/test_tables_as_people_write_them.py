"""Tables of metadata as spreadsheets, scripts and other programs write them: read right, or named."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from open_ldm.controls.metadata import Metadata
from open_ldm.core.errors import DataError, OpenLdmError
from open_ldm.data.columns import columns_of
from open_ldm.data.sample import Source
from open_ldm.sources.folder import FolderConfig, FolderSource
from open_ldm.sources.huggingface import HuggingFaceConfig, HuggingFaceSource
from open_ldm.sources.shards import ShardsConfig, ShardsSource

Encode = Callable[..., bytes]
Tar = Callable[..., Path]
NAMES = ("p0.png", "p1.png", "p2.png")


@pytest.fixture(name="csv")
def csv_folder(tmp_path: Path, encode: Encode) -> Callable[..., FolderSource]:
    """Opens a folder of three pictures with this metadata.csv; P0, P1 and P2 stand for their names."""

    def opened(text: str, file: str = "metadata.csv", **settings: Any) -> FolderSource:
        for number, name in enumerate(NAMES):
            (tmp_path / name).write_bytes(encode())
            text = text.replace(f"P{number}", name)
        (tmp_path / file).write_text(text)
        return FolderConfig(path=tmp_path, **settings).open()

    return opened


def values(source: Source, column: str) -> list[Any]:
    return [columns_of(source)[column].at(index) for index in range(len(source))]


def refused(open_it: Callable[[], object]) -> str:
    with pytest.raises(OpenLdmError) as caught:
        open_it()
    return str(caught.value)


@pytest.mark.parametrize("separator", [",", ";", "\t", ", "])
def test_separators_of_spreadsheets_are_read(separator: str, csv: Callable[..., FolderSource]) -> None:
    lines = [["file_name", "text", "stain", "mag"], ["P0", '"a, b; c"', "HE", "40"], ["P1", '"x ""y"""', "PAS", "20"]]
    source = csv("\r\n".join(separator.join(line) for line in [*lines, ["P2", "z", "", "10"]]) + "\r\n")
    assert source.captions() == ["a, b; c", 'x "y"', "z"]
    assert (values(source, "stain"), values(source, "mag")) == (["HE", "PAS", None], [40, 20, 10])


def test_blanks_are_part_of_names_and_values_no_more_than_of_text(csv: Callable[..., FolderSource]) -> None:
    source = csv("file_name,label,stain \nP0,cat ,HE\nP1, cat, HE\nP2,dog,PAS\n")
    assert source.class_names == ("cat", "dog") and values(source, "stain") == ["HE", "HE", "PAS"]


def test_an_index_without_a_name_is_a_column_and_empty_cells_are_none(csv: Callable[..., FolderSource]) -> None:
    source = csv(",file_name,a,\n7,P0,1,\n8,P1,2,\n9,P2,3,\n,,,\n\n")
    assert list(columns_of(source)) == ["column 1", "a"] and values(source, "column 1") == [7, 8, 9]


@pytest.mark.parametrize("missing", ["NA", "nan", "#N/A", "<NA>", "None", "null", "-", "?", "#DIV/0!", "", "  "])
def test_a_number_that_is_missing_is_said_in_many_ways(missing: str, csv: Callable[..., FolderSource]) -> None:
    source = csv(f"file_name,mag,stain\nP0,40,HE\nP1,{missing},{missing or 'NA'}\nP2,1e-1,PAS\n")
    assert values(source, "mag") == [40, None, 0.1]
    assert values(source, "stain")[1] == (missing.strip() or ("NA" if not missing else None)), "among words it is a word"


def test_a_missing_caption_of_csv_is_none_and_a_word_stays_one(csv: Callable[..., FolderSource]) -> None:
    assert csv("file_name,text\nP0,NaN\nP1,<NA>\nP2,nan\n").captions() == ["nan"]


def test_the_same_of_json(csv: Callable[..., FolderSource]) -> None:
    rows = [
        {"mag": 40, "name": "NA"},
        {"mag": "NA", "name": "x"},
        {"mag": float("nan"), "text": float("nan"), "label": float("nan")},
    ]
    text = "\n".join(json.dumps({"file_name": name, **row}) for name, row in zip(NAMES, rows, strict=True))
    source = csv(text, file="metadata.jsonl")
    assert values(source, "mag") == [40, None, None] and values(source, "name") == ["NA", "x", None]
    assert not source.captions() and not source.class_names


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (("0.0", "1.0", "1.0"), ("0", "1")),
        (("01", "02", "10"), ("01", "02", "10")),
        (("1", "01", "2"), ("01", "1", "2")),
        (("0", "1", "1"), ("0", "1")),
        (("0.5", "1", "1"), ("0.5", "1")),
        (("NA", "cat", "cat"), ("NA", "cat")),
    ],
)
def test_labels_of_csv(labels: tuple[str, ...], classes: tuple[str, ...], csv: Callable[..., FolderSource]) -> None:
    source = csv("file_name,label\n" + "".join(f"P{number},{label}\n" for number, label in enumerate(labels)))
    assert source.class_names == classes


@pytest.mark.parametrize("missing", ["NaN", "NA", " nan", "#N/A", "<NA>", "None", "-", "", "  "])
def test_a_size_that_is_missing_is_said_in_many_ways(missing: str, csv: Callable[..., FolderSource]) -> None:
    rows = f"P0,480,640.0\nP1,{missing},{missing}\nP2,{missing},\n"
    source = csv(f"file_name,original_height,original_width\n{rows}")
    assert [source.size_of(index) for index in range(3)] == [(480, 640), (24, 32), (24, 32)]
    row = {"file_name": "p0.png", "original_height": missing, "original_width": missing}
    (source.config.path / "metadata.csv").unlink()
    assert csv(json.dumps(row), "metadata.jsonl").size_of(0) == (24, 32)


@pytest.mark.parametrize("wrong", ["NaN,640", "480,NA", "480,", "many,640", "0,0"])
def test_half_a_size_and_other_words_are_refused_as_sizes(wrong: str, csv: Callable[..., FolderSource]) -> None:
    assert "metadata.csv line 2: original_height=" in refused(
        lambda: csv(f"file_name,original_height,original_width\nP0,{wrong}\n")
    )


def test_a_missing_number_is_no_class(csv: Callable[..., FolderSource]) -> None:
    source = csv("file_name,label\nP0,0\nP1,NA\nP2,1\n")
    assert not source.class_names and "labels on 2 of 3 ignored" in source.summary.sentence()


def test_whole_numbers_written_as_floats_are_whole(csv: Callable[..., FolderSource]) -> None:
    source = csv("file_name,original_height,original_width\nP0,480.0,640.0\nP1,,\nP2,96.0,64\n")
    assert [source.size_of(index) for index in range(3)] == [(480, 640), (24, 32), (96, 64)]
    rows = [
        {"file_name": name, "label": 1.0 - number % 2, "original_height": 48.0, "original_width": 64.0}
        for number, name in enumerate(NAMES)
    ]
    (source.config.path / "metadata.csv").unlink()
    source = csv("\n".join(map(json.dumps, rows)), file="metadata.jsonl")
    assert source.class_names == ("0", "1") and source.size_of(0) == (48, 64)
    rows[0]["label"] = 0.5
    assert "label is 0.5" in refused(lambda: csv("\n".join(map(json.dumps, rows)), file="metadata.jsonl"))


def test_numbers_that_a_float_does_not_hold_stay_apart(csv: Callable[..., FolderSource]) -> None:
    source = csv("file_name,id\nP0,9007199254740993\nP1,9007199254740992\nP2,1\n")
    assert values(source, "id") == ["9007199254740993", "9007199254740992", "1"]


def test_names_of_columns_in_capital_letters_are_near_misses(csv: Callable[..., FolderSource]) -> None:
    assert "{file_name: File Name}" in refused(lambda: csv("File Name,Text\nP0,a\nP1,b\nP2,c\n"))
    said = csv("file_name,Text,Label\nP0,a,x\nP1,b,y\nP2,c,z\n").summary.sentence()
    assert "data.source.columns={text: Text, label: Label}" in said


def test_a_column_of_mostly_numbers_is_asked_about(csv: Callable[..., FolderSource]) -> None:
    source = csv("file_name,mag,well\nP0,40,01\nP1,20,02\nP2,10x,10\n")
    said = refused(lambda: Metadata(column="mag").describe(source))
    assert "holds 2 numbers and '10x'" in said and "values: auto" in said
    assert Metadata(column="mag", values="auto").describe(source).words == ("10x", "20", "40")
    assert "'10x'" in refused(lambda: Metadata(column="mag", scale="linear").describe(source))
    assert Metadata(column="well").describe(source).words == ("01", "02", "10")


def test_folders_of_img2dataset_are_no_classes(tmp_path: Path, encode: Encode) -> None:
    for shard in ("00000", "00001"):
        (tmp_path / shard).mkdir()
        for number in range(2):
            (tmp_path / shard / f"{shard}000{number}.jpg").write_bytes(encode(kind="JPEG"))
    source = FolderConfig(path=tmp_path).open()
    assert not source.class_names and "numbered by img2dataset are no classes" in source.summary.sentence()
    (tmp_path / "00001" / "other.jpg").write_bytes(encode(kind="JPEG"))
    assert FolderConfig(path=tmp_path).open().class_names == ("00000", "00001")


# Shards


def shards(path: Path) -> ShardsSource:
    return ShardsConfig(path=str(path)).open()


def test_values_and_folders_in_shards_that_are_not_read_are_named(tmp_path: Path, tar: Tar, encode: Encode) -> None:
    picture = encode()
    tar(tmp_path / "a.tar", {"x/0.png": picture, "x/0.json": b'{"caption": "a", "class": 1}', "y/1.png": picture})
    said = shards(tmp_path / "a.tar").summary.sentence()
    assert (
        "data.source.columns={text: caption, label: class}" in said and "2 folders in the shards, which are no classes" in said
    )
    tar(tmp_path / "b.tar", {"0.png": picture, "0.txt": b"a", "0.json": b'{"caption": "a", "label": null}'})
    assert shards(tmp_path / "b.tar").summary.sentence() == "1 picture, no classes, captions (1 tar shard)"


def test_floats_in_json_are_whole_numbers_where_they_can_be(tmp_path: Path, tar: Tar, encode: Encode) -> None:
    said = {"label": 1.0, "original_height": 480.0, "original_width": 640.0}
    members = {"0.png": encode(), "0.json": json.dumps(said).encode(), "1.png": encode(), "1.json": b'{"label": 0.0}'}
    source = shards(tar(tmp_path / "a.tar", members))
    assert source.class_names == ("0", "1") and (source.label_of(0), source.size_of(0)) == (1, (480, 640))


def test_links_in_a_shard_are_counted(tmp_path: Path, encode: Encode) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("a.png")
        info.size = len(content := encode())
        archive.addfile(info, io.BytesIO(content))
        for name, kind in (("b.png", tarfile.LNKTYPE), ("c.png", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "a.png"
            archive.addfile(info)
    assert "2 other members ignored: links 2" in shards(tmp_path / "a.tar").summary.sentence()


def test_where_shards_lie_deeper_or_are_compressed_the_error_says_it(tmp_path: Path, tar: Tar, encode: Encode) -> None:
    for name in ("test", "train"):
        (tmp_path / "set" / name).mkdir(parents=True)
        tar(tmp_path / "set" / name / "A.tar", {"0.png": encode()})
    said = refused(lambda: shards(tmp_path / "set"))
    assert f"data.source.path={tmp_path / 'set' / 'train'}, or " in said
    assert len(shards(tmp_path / "set" / "*" / "*.tar")) == 2
    (tmp_path / "gz").mkdir()
    (tmp_path / "gz" / "a.tar.gz").write_bytes(b"x")
    assert "gunzip" in refused(lambda: shards(tmp_path / "gz"))
    (tmp_path / "set" / "train" / "A.tar").rename(tmp_path / "set" / "A.TAR")
    assert len(shards(tmp_path / "set")) == 1


# Tables


def table(path: Path, content: dict[str, Any], **settings: Any) -> HuggingFaceSource:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pytest.importorskip("datasets")
    parquet.write_table(arrow.table(content), path)
    return HuggingFaceConfig(path=str(path), **settings).open()


def test_structs_and_dates_of_a_table_are_columns_and_the_rest_is_named(tmp_path: Path, encode: Encode) -> None:
    arrow = pytest.importorskip("pyarrow")
    rows = {
        "image": [{"bytes": encode(), "path": None}] * 2,
        "meta": [{"stain": "HE", "deep": {"mag": 40}}, {"stain": None, "deep": None}],
        "when": arrow.array([0, None], arrow.timestamp("s")),
        "price": arrow.array(["1.5", "2"]).cast(arrow.decimal128(5, 2)),
        "tags": [["a"], ["b"]],
        "raw": [b"x", b"y"],
    }
    source = table(tmp_path / "a.parquet", rows, picture="image")
    assert set(columns_of(source)) == {"meta.stain", "meta.deep.mag", "when", "price"}
    assert values(source, "meta.stain") == ["HE", None] and values(source, "meta.deep.mag") == [40, None]
    assert values(source, "when") == ["1970-01-01T00:00:00", None] and values(source, "price") == [1.5, 2]
    assert source[0].attributes["meta.deep.mag"] == 40 and "meta.stain" not in source[1].attributes
    assert "are not read: tags List, raw binary" in source.summary.sentence()


def test_floats_of_a_table_are_classes_and_sizes_where_they_are_whole(tmp_path: Path, encode: Encode) -> None:
    image = [{"bytes": encode(), "path": None}] * 2
    whole = {"image": image, "label": [1.0, 0.0], "original_height": [48.0, None], "original_width": [64.0, None]}
    source = table(tmp_path / "a.parquet", whole)
    assert source.class_names == ("0", "1") and [source.size_of(index) for index in range(2)] == [(48, 64), (24, 32)]
    source = table(tmp_path / "b.parquet", {"image": image, "label": [1.5, 0.0]})
    assert not source.class_names and values(source, "label") == [1.5, 0] and "label is Value" in source.summary.sentence()


def test_two_columns_of_declared_classes_are_named(tmp_path: Path, encode: Encode) -> None:
    datasets = pytest.importorskip("datasets")
    names = {name: datasets.ClassLabel(names=["x", "y"]) for name in ("a", "b")}
    features = datasets.Features({"image": datasets.Image(), **names})
    content = {"image": [{"bytes": encode(), "path": None}] * 2, "a": [0, 1], "b": [1, 1]}
    datasets.Dataset.from_dict(content, features=features).save_to_disk(str(tmp_path / "set"))
    source = HuggingFaceConfig(path=str(tmp_path / "set")).open()
    assert "classes are declared by a, b: data.source.columns={label: a} takes one" in source.summary.sentence()
    assert values(source, "b") == ["y", "y"]


def test_tables_in_capital_letters_are_found(tmp_path: Path, encode: Encode) -> None:
    (tmp_path / "set").mkdir()
    table(tmp_path / "set" / "X.PARQUET", {"image": [{"bytes": encode(), "path": None}]})
    assert len(HuggingFaceConfig(path=str(tmp_path / "set")).open()) == 1


def test_a_table_whose_label_must_be_whole_says_which_is_not(tmp_path: Path, encode: Encode) -> None:
    image = [{"bytes": encode(), "path": None}]
    with pytest.raises(DataError, match="another type for label"):
        table(tmp_path / "a.parquet", {"image": image, "score": [0.5]}, columns={"label": "score"})
