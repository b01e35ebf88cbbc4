"""Columns of metadata: what is a number, what is a word, what is missing, wherever it comes from."""

from __future__ import annotations

import io
import json
import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from open_ldm.core.errors import ConfigError
from open_ldm.data.columns import Column, build_column, columns_of, flat, number_in, spelt
from open_ldm.data.content import read_fingerprint
from open_ldm.data.holdout import HoldoutConfig, select_part
from open_ldm.data.label_column import LabelColumn
from open_ldm.data.sample import Source
from open_ldm.data.survey import survey
from open_ldm.data.transforms import TransformConfig
from open_ldm.sources.folder import FolderConfig
from open_ldm.sources.loader import read_batches
from open_ldm.sources.shards import ShardsConfig
from open_ldm.sources.shrunk import ShrunkConfig

NAN = math.nan
Row = Mapping[str, Any]


def rows(count: int = 24) -> list[dict[str, Any]]:
    """Rows of metadata as JSON has them; the column of every fourth picture is missing in one way or another."""
    found = []
    for index in range(count):
        row: dict[str, Any] = {
            "stain": ("HE", "PAS", "MT")[index % 3],
            "magnification": (10, 20, 40)[index % 3],
            "ome": {"pixel_size_um": 0.25 * (1 + index % 4)},
            "slide id": f"S{index // 4}",
            "well": f"0{index % 5}",
        }
        if index % 4 == 0:
            row["stain"] = None
            del row["magnification"]
        found.append(row)
    return found


def picture(index: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), 10 * index % 256, dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def folder(root: Path, given: Sequence[Row], kind: str = "jsonl") -> Path:
    root.mkdir(parents=True, exist_ok=True)
    named = [{"file_name": f"{index:03}.png", **row} for index, row in enumerate(given)]
    for index in range(len(given)):
        (root / f"{index:03}.png").write_bytes(picture(index))
    if kind == "jsonl":
        (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, named)))
    elif kind == "csv":
        flattened = [flat(row) for row in named]
        names = list(dict.fromkeys(name for row in flattened for name in row))
        lines = [names, *([("" if row.get(name) is None else str(row[name])) for name in names] for row in flattened)]
        (root / "metadata.csv").write_text("\n".join(",".join(line) for line in lines))
    else:
        pyarrow = pytest.importorskip("pyarrow")
        parquet = pytest.importorskip("pyarrow.parquet")
        every = dict.fromkeys(name for row in named for name in row)
        table = pyarrow.Table.from_pylist([dict.fromkeys(every) | row for row in named])
        parquet.write_table(table, root / "metadata.parquet")
    return root


def opened(root: Path, kind: str, tar: Callable[..., Path]) -> Source:
    if kind != "shards":
        return FolderConfig(path=folder(root, rows(), kind)).open()
    root.mkdir()
    for number in range(2):
        members = []
        for index, row in list(enumerate(rows()))[12 * number : 12 * number + 12]:
            members += [(f"{index:03}.png", picture(index)), (f"{index:03}.json", json.dumps(row).encode())]
        tar(root / f"{number}.tar", members)
    return ShardsConfig(path=str(root)).open()


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet", "shards"])
def test_columns_are_the_same_wherever_they_come_from(kind: str, tmp_path: Path, tar: Callable[..., Path]) -> None:
    columns = columns_of(source := opened(tmp_path / "data", kind, tar))
    assert set(columns) == {"stain", "magnification", "ome.pixel_size_um", "slide id", "well"}
    assert [columns["magnification"].at(index) for index in range(6)] == [None, 20.0, 40.0, 10.0, None, 40.0]
    assert [columns["stain"].at(index) for index in range(6)] == [None, "PAS", "MT", "HE", None, "MT"]
    assert columns["ome.pixel_size_um"].values.tolist()[:5] == [0.25, 0.5, 0.75, 1.0, 0.25]
    assert columns["well"].words == ("00", "01", "02", "03", "04")  # no numbers: 00 and 0 would be one
    assert (columns["stain"].missing, columns["slide id"].missing) == (6, 0)
    part = select_part(source, HoldoutConfig(share=0.5), "train")
    kept = [int(name.split("/")[-1].split(".")[0]) for name in map(part.sample_id, range(len(part)))]
    assert [columns_of(part)["stain"].at(row) for row in range(len(part))] == [columns["stain"].at(row) for row in kept]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["jsonl", "shards"])
def test_views_carry_the_columns_that_are_asked_for(kind: str, workers: int, tmp_path: Path, tar: Callable[..., Path]) -> None:
    source, transform = opened(tmp_path / "data", kind, tar), TransformConfig(size_px=8)
    (plain,) = read_batches(source, transform, seed=1, position_ranges=[range(24)], workers=0)
    reads = read_batches(
        source, transform, seed=1, position_ranges=[range(24)], workers=workers, columns=["stain", "magnification", "other"]
    )
    (batch,) = reads
    assert batch.indices == plain.indices and not plain.records[0].columns
    for index, record in zip(batch.indices, batch.records, strict=True):
        wanted = {name: columns_of(source)[name].at(index) for name in ("stain", "magnification")}
        assert record.columns == {**wanted, "other": None}


def test_a_source_goes_to_another_process_with_its_columns(tmp_path: Path, tar: Callable[..., Path]) -> None:
    source = opened(tmp_path / "data", "shards", tar)
    _ = columns_of(source)["stain"]
    again = pickle.loads(pickle.dumps(source))
    assert columns_of(again)["magnification"].hash == columns_of(source)["magnification"].hash
    assert columns_of(again)["stain"].at(2) == "MT"


def test_roles_are_not_among_the_unused_columns(tmp_path: Path) -> None:
    given = [{**row, "caption": "a cell", "original_height": 8, "original_width": 8} for row in rows()]
    settings = {"label": "stain", "text": "caption"}
    source = FolderConfig(path=folder(tmp_path, given, "csv"), columns=settings).open()
    assert set(columns_of(source).unused(["well"])) == {"magnification", "ome.pixel_size_um", "slide id"}
    assert "caption" not in columns_of(source) and "stain" in columns_of(source)


def test_a_role_may_have_a_nested_name(tmp_path: Path) -> None:
    given = [{"meta": {"stain": ("HE", "PAS")[index % 2], "about": f"cell {index}"}} for index in range(8)]
    columns = {"label": "meta.stain", "text": "meta.about"}
    source = FolderConfig(path=folder(tmp_path, given), columns=columns).open()
    assert source.class_names == ("HE", "PAS") and source.captions_of(3) == ("cell 3",)


@pytest.mark.parametrize(
    ("cells", "wanted"),
    [
        (["1", "2.5", "-3e2", ""], [1, 2.5, -300, NAN]),
        (["1", "nan", "NA", "2"], [1, NAN, NAN, 2]),
        ([" 7 ", "+8", ".5", "6."], [7, 8, 0.5, 6]),
        (["", "", "", ""], [NAN] * 4),
        (["007", "8", "9", "10"], ["007", "8", "9", "10"]),
        (["1_000", "2", "3", "4"], ["1_000", "2", "3", "4"]),
        (["0,5", "1", "2", "3"], ["0,5", "1", "2", "3"]),
        (["12345678901234567890", "2", "3", "4"], ["12345678901234567890", "2", "3", "4"]),
        (["NA", "DE", "", "FR"], ["NA", "DE", None, "FR"]),
        (["2024-01-02", "yes", "no", "null"], ["2024-01-02", "yes", "no", "null"]),
    ],
)
def test_cells_of_csv(cells: list[str], wanted: list[Any]) -> None:
    column = build_column("c", cells, untyped=True)
    found = [column.at(index) for index in range(4)]
    assert found == [None if isinstance(one, float) and math.isnan(one) else one for one in wanted]


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([1, 2.5, None, math.nan], [1.0, 2.5, None, None]),
        ([1, math.inf, 2, 3], [1.0, None, 2.0, 3.0]),
        (["1", "2", None, "3"], ["1", "2", None, "3"]),
        ([True, False, None, True], ["true", "false", None, "true"]),
        ([1, "HE", 2.5, None], ["1", "HE", "2.5", None]),
        ([2**60, 1, 2, 3], [str(2**60), "1", "2", "3"]),
        ([["a"], {"b": 1}, b"c", "d"], [None, None, None, "d"]),
    ],
)
def test_values_of_json(values: list[Any], wanted: list[Any]) -> None:
    column = build_column("c", values)
    assert [column.at(index) for index in range(4)] == wanted


def test_a_name_written_with_its_dots_counts_before_a_nested_one() -> None:
    assert flat({"a": {"b": 1, "c": {"d": 2}}, "a.b": 3}) == {"a.b": 3, "a.c.d": 2}
    assert flat({"a.b": 3, "a": {"b": 1}}) == {"a.b": 3}


def test_numbers_as_words_and_words_as_numbers() -> None:
    numbers = build_column("dose", [10, 2, None, 2])
    assert numbers.as_words().words == ("2", "10") and numbers.counts() == {"2": 2, "10": 1}
    words = build_column("dose", ["10", "2.5", None, "2.5"])
    found = words.as_numbers()
    assert found is not None and found.tolist()[:2] == [10, 2.5] and math.isnan(found[2])
    assert build_column("dose", ["10", "many"]).as_numbers() is None
    assert all(number_in(spelt(number)) == number for number in (0.1, 1e-7, 3.0, -2.0, 1e300, 2.0**53))


def test_a_part_forgets_the_words_that_none_of_it_has() -> None:
    column = build_column("stain", ["HE", "PAS", None, "MT", "HE"])
    part = column.rows(np.array([3, 2, 4]))
    assert part.words == ("HE", "MT") and [part.at(row) for row in range(3)] == ["MT", None, "HE"]
    assert isinstance(part, Column) and part.hash != column.hash


def test_another_value_is_another_hash() -> None:
    one, other = build_column("a", [1.0, 2.0]), build_column("a", [2.0, 1.0])
    assert one.hash != other.hash and build_column("a", ["1", "2"]).hash != build_column("a", ["1", "3"]).hash


def test_the_hashes_of_a_source_are_what_they_were(tmp_path: Path) -> None:
    """Columns that nothing reads change neither the fingerprint of a data set nor the names of its caches."""
    bare = FolderConfig(path=folder(tmp_path / "bare", [{} for _ in rows()])).open()
    full = FolderConfig(path=folder(tmp_path / "full", rows())).open()
    assert (bare.fingerprint, bare.hashes) == (full.fingerprint, full.hashes)
    assert read_fingerprint(bare) == read_fingerprint(full)
    other = rows()
    other[5]["magnification"] = 400
    changed = FolderConfig(path=folder(tmp_path / "changed", other)).open()
    seen = [read_fingerprint(source, ["magnification"]) for source in (full, changed)]
    assert len({*seen, read_fingerprint(full)}) == 3
    assert read_fingerprint(full, ["stain"]) == read_fingerprint(changed, ["stain"])


def test_one_group_stands_on_one_side(tmp_path: Path) -> None:
    source = FolderConfig(path=folder(tmp_path, rows(200))).open()
    holdout = HoldoutConfig(share=0.3, by="slide id")
    parts = {name: select_part(source, holdout, name) for name in ("train", "held_out")}  # type: ignore[arg-type]
    slides = {name: set(columns_of(part)["slide id"].words) for name, part in parts.items()}
    assert not slides["train"] & slides["held_out"] and len(slides["train"] | slides["held_out"]) == 50
    groups = parts["train"].groups
    assert groups is not None and (groups.train, groups.held_out) == (len(slides["train"]), len(slides["held_out"]))
    assert f"by slide id: {groups.train} groups to train on, {groups.held_out} held out" in parts["held_out"].summary.sentence()
    assert 5 <= groups.held_out <= 25
    more = FolderConfig(path=folder(tmp_path, rows(220))).open()
    again = select_part(more, holdout, "held_out")
    assert slides["held_out"] == {word for word in columns_of(again)["slide id"].words if int(word[1:]) < 50}


def test_a_picture_without_a_group_is_one_of_its_own(tmp_path: Path) -> None:
    source = FolderConfig(path=folder(tmp_path, rows(80))).open()
    by_stain = select_part(source, HoldoutConfig(share=0.5, by="stain"), "held_out")
    plain = select_part(source, HoldoutConfig(share=0.5), "held_out")
    assert by_stain.groups is not None and by_stain.groups.without == 20
    alone = {source.sample_id(index) for index in range(80) if columns_of(source)["stain"].at(index) is None}

    def among(part: Source) -> set[str]:
        return {part.sample_id(index) for index in range(len(part))} & alone

    assert among(by_stain) == among(plain) and among(plain)
    assert "20 pictures without a value are groups of their own" in by_stain.summary.sentence()


def test_a_holdout_by_a_column_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    source = FolderConfig(path=folder(tmp_path, rows())).open()
    with pytest.raises(ConfigError, match=r"no such column; needed: one of .* \(did you mean 'slide id'\?\)"):
        select_part(source, HoldoutConfig(share=0.5, by="slide_id"), "train")
    assert HoldoutConfig(share=0.5).model_dump_json() == '{"share":0.5,"seed":0}'


def test_the_survey_counts_and_names(tmp_path: Path) -> None:
    source = FolderConfig(path=folder(tmp_path, rows())).open()
    columns = {"stain": ("HE", "PAS"), "magnification": None}
    seen = survey(source, columns=columns, holdout=HoldoutConfig(share=0.5, by="slide id"))
    text = seen.text()
    assert "columns not used: ome.pixel_size_um, well; a control {kind: metadata, column: ome.pixel_size_um} reads one" in text
    assert "stain is missing for 6 of 24 pictures: for such ones the control is dropped" in text
    assert "stain has a value that is not listed for 6 of 24 pictures (MT 6): for such ones the control is dropped" in text
    assert seen.groups is not None and f"held out {seen.groups.sentence()}" in text
    content = seen.to_json()
    assert content["unused"] == ("ome.pixel_size_um", "well") and content["columns"]["magnification"]["missing"] == 6
    assert content["columns"]["stain"]["counts"] == {"HE": 6, "MT": 6, "PAS": 6}
    bare = survey(FolderConfig(path=folder(tmp_path / "bare", [{} for _ in rows()])).open()).to_json()
    assert not {"columns", "unused", "groups"} & set(bare)


def test_shrunk_pictures_keep_their_columns(tmp_path: Path) -> None:
    inner = FolderConfig(path=folder(tmp_path, rows()))
    source = ShrunkConfig(of=inner, short_side_px=(4, 8)).open()
    assert columns_of(source)["stain"].at(1) == "PAS"


def test_classes_from_a_column_of_metadata_need_no_picture(tmp_path: Path) -> None:
    folder(tmp_path, rows())
    (tmp_path / "003.png").write_bytes(b"broken")
    labelled = LabelColumn(FolderConfig(path=tmp_path).open(), "stain")
    assert labelled.class_names == ("HE", "MT", "PAS")
    assert [labelled.label_of(index) for index in range(4)] == [None, 2, 1, 0]
