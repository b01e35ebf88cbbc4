"""Tables of the library `datasets`, written by it: read with their names, classes and captions, or refused with the cause."""

from __future__ import annotations

import io
import json
import multiprocessing
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from open_ldm.core.errors import ConfigError, DataError, OpenLdmError
from open_ldm.core.extras import MissingExtraError
from open_ldm.data import pictures
from open_ldm.data.columns import columns_of
from open_ldm.data.content import content_hash
from open_ldm.data.sample import BadPicture
from open_ldm.data.transforms import TransformConfig
from open_ldm.sources.huggingface import NO_PICTURE, HuggingFaceConfig, HuggingFaceSource
from open_ldm.sources.loader import read_batches

datasets = pytest.importorskip("datasets")
COUNT = 6


pytestmark = pytest.mark.usefixtures("no_hub")


def picture(number: int, height: int = 12, width: int = 16) -> Image.Image:
    rows, columns = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([rows * 9, columns * 9, rows + 2 * columns + 40 * number], axis=2).astype(np.uint8))


def png(number: int) -> bytes:
    stream = io.BytesIO()
    picture(number).save(stream, "PNG")
    return stream.getvalue()


def table(**more: Any) -> Any:
    """Six pictures with their bytes, two classes, a caption each."""
    content = {
        "image": [{"bytes": png(number), "path": f"{number}.png"} for number in range(COUNT)],
        "label": [number % 2 for number in range(COUNT)],
        "text": [f"picture {number}" for number in range(COUNT)],
    }
    types = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"]), "text": datasets.Value("string")}
    for name, (values, feature) in more.items():
        content[name], types[name] = values, feature
    return datasets.Dataset.from_dict(content, features=datasets.Features(types))


def opened(path: Path, **settings: Any) -> HuggingFaceSource:
    return HuggingFaceConfig(path=str(path), **settings).open()


def refused(path: Path, **settings: Any) -> str:
    with pytest.raises(OpenLdmError) as caught:
        opened(path, **settings)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 420
    return str(caught.value)


def saved(kind: str, root: Path, rows: Any = None) -> Path:
    rows = table() if rows is None else rows
    if kind == "parquet file":
        rows.to_parquet(root / "set.parquet")
        return root / "set.parquet"
    if kind == "folder of parquet":
        (root / "set [v2]").mkdir()
        half = len(rows) // 2
        rows.select(range(half)).to_parquet(root / "set [v2]" / "train-00000-of-00002.parquet")
        rows.select(range(half, len(rows))).to_parquet(root / "set [v2]" / "train-00001-of-00002.parquet")
        return root / "set [v2]"
    rows.save_to_disk(root / "saved")
    return next((root / "saved").glob("*.arrow")) if kind == "arrow file" else root / "saved"


KINDS = ("parquet file", "folder of parquet", "save_to_disk", "arrow file")


@pytest.mark.parametrize("kind", KINDS)
def test_every_form_gives_the_same_samples(kind: str, tmp_path: Path) -> None:
    source = opened(saved(kind, tmp_path))
    assert len(source) == COUNT and source.class_names == ("cat", "dog")
    assert source.captions() == [f"picture {number}" for number in range(COUNT)]
    for number in range(COUNT):
        sample = source[number]
        assert np.array_equal(sample.pixels, np.asarray(picture(number))) and sample.file == png(number)
        assert (sample.label, sample.captions) == (number % 2, (f"picture {number}",))
        assert (sample.original_height_px, sample.original_width_px) == source.size_of(number) == (12, 16)
        assert (source.label_of(number), source.captions_of(number)) == (sample.label, sample.captions)
        assert sample.id == source.sample_id(number) and sample.id.endswith(f"/{number:08d}")
    assert source.summary.sentence().startswith("6 pictures, 2 classes, captions (")


def test_bytes_name_the_content_not_the_form(tmp_path: Path) -> None:
    """The same pictures have the same digests in parquet, in arrow and in a file; another picture has another."""
    digests = {kind: opened(saved(kind, tmp_path)).digests(range(COUNT), lambda done: None) for kind in KINDS}
    assert len({tuple(each) for each in digests.values()}) == 1 and len(set(digests["arrow file"])) == COUNT
    before = content_hash(opened(tmp_path / "saved"))
    assert content_hash(opened(tmp_path / "saved")) == before  # remembered
    changed = [{"bytes": png(number if number != 3 else 77), "path": None} for number in range(COUNT)]
    other = table().remove_columns("image").add_column("image", changed).cast_column("image", datasets.Image())
    other.save_to_disk(tmp_path / "changed")
    here = opened(tmp_path / "changed")
    assert content_hash(here) != before
    differing = [a != b for a, b in zip(here.digests(range(COUNT), lambda done: None), digests["arrow file"], strict=True)]
    assert differing == [number == 3 for number in range(COUNT)]


@pytest.mark.parametrize("part", ["pictures", "captions", "labels"])
def test_the_index_is_hashed_in_parts(part: str, tmp_path: Path) -> None:
    table().save_to_disk(tmp_path / "a")
    sizes = {name: ([40] * COUNT, datasets.Value("int32")) for name in ("original_height", "original_width")}
    content = table(**(sizes if part == "pictures" else {}))
    if part != "pictures":
        name, value = ("text", "new") if part == "captions" else ("label", 1)
        content = content.map(lambda row, index: {name: value if index == 2 else row[name]}, with_indices=True)
    content.save_to_disk(tmp_path / "b")
    one, other = opened(tmp_path / "a"), opened(tmp_path / "b")
    assert {
        name for name in ("pictures", "captions", "labels") if getattr(one.hashes, name) != getattr(other.hashes, name)
    } == {part}
    assert one.fingerprint != other.fingerprint
    if part == "pictures":
        assert other.size_of(0) == (40, 40)


def test_splits_are_chosen_by_name(tmp_path: Path) -> None:
    datasets.DatasetDict({"train": table(), "test": table().select([0, 1])}).save_to_disk(tmp_path / "both")
    files = tmp_path / "files" / "data"
    files.mkdir(parents=True)
    table().to_parquet(files / "train-00000-of-00001.parquet")
    table().select([0, 1]).to_parquet(files / "my_test-00000-of-00001.parquet")
    for root, test in ((tmp_path / "both", "test"), (files.parent, "my_test")):
        assert "data.source.split=" in refused(root) and "test" in refused(root)
        assert len(opened(root, split="train")) == COUNT and len(opened(root, split=test)) == 2
        assert opened(root, split=test).sample_id(0) == f"{test}/00000000"
        assert f"did you mean '{test}'" in refused(root, split=test[:-1])
    (tmp_path / "words").mkdir()
    for name in ("train.parquet", "valid-v1.parquet"):
        table().to_parquet(tmp_path / "words" / name)
    assert len(opened(tmp_path / "words", split="validation")) == COUNT
    table().to_parquet(tmp_path / "words" / "more.parquet")
    assert "more.parquet belongs to no split" in refused(tmp_path / "words", split="train")


def test_pictures_stored_as_paths_say_so(tmp_path: Path) -> None:
    for number in range(COUNT):
        picture(number).save(tmp_path / f"{number}.png")
    paths = datasets.Dataset.from_dict({"image": [str(tmp_path / f"{number}.png") for number in range(COUNT)]})
    paths = paths.cast_column("image", datasets.Image())
    paths.to_parquet(tmp_path / "paths.parquet")
    here = opened(tmp_path / "paths.parquet")
    assert np.array_equal(here[3].pixels, np.asarray(picture(3)))
    assert len(set(here.digests(range(COUNT), lambda done: None))) == COUNT
    (tmp_path / "3.png").rename(tmp_path / "moved.png")
    said = refused(tmp_path / "paths.parquet")
    assert "paths were stored, not pictures, in 6 of 6 rows" in said and "3.png is not here" in said and "save_to_disk" in said


def test_rows_without_a_picture_are_counted_or_refused(tmp_path: Path) -> None:
    def hole(at: int, count: int) -> Path:
        content = [{"bytes": png(number % 5), "path": None} for number in range(count)]
        rows = datasets.Dataset.from_dict({"image": [None if number == at else one for number, one in enumerate(content)]})
        rows.cast_column("image", datasets.Image()).save_to_disk(tmp_path / f"{count}")
        return tmp_path / f"{count}"

    source = opened(hole(7, 120))
    with pytest.raises(BadPicture, match=NO_PICTURE):
        source[7]
    assert len(source) == 120 and source[8].pixels.shape == (12, 16, 3)
    assert "1 of 12 rows have no picture; needed: a picture in all but 1 % of them; fix: leave these" in refused(hole(7, 12))


def test_what_is_no_picture_is_bad(tmp_path: Path) -> None:
    rows = [
        {"bytes": png(0), "path": "a.png"},
        {"bytes": b"no picture", "path": "b.png"},
        {"bytes": png(0)[:60], "path": "c.png"},
    ]
    datasets.Dataset.from_dict({"image": rows}).cast_column("image", datasets.Image()).save_to_disk(tmp_path / "a")
    source = opened(tmp_path / "a")
    reasons = []
    for index in (1, 2):
        with pytest.raises(BadPicture) as caught:
            source[index]
        reasons.append(caught.value.reason)
    assert reasons == [pictures.NOT_A_PICTURE, pictures.DAMAGED]


def test_columns_by_type_and_by_name(tmp_path: Path) -> None:
    masks = [{"bytes": png(9), "path": None}] * COUNT
    two = table(mask=(masks, datasets.Image()), caption=([["a", "b"]] * COUNT, datasets.List(datasets.Value("string"))))
    two = two.rename_column("label", "kind").remove_columns("text")
    two.save_to_disk(tmp_path / "two")
    assert "2 columns of pictures: image, mask; fix: data.source.picture=image" in refused(tmp_path / "two")
    source = opened(tmp_path / "two", picture="image", columns={"text": "caption"})
    assert source.class_names == ("cat", "dog") and source[1].label == 1  # the one column that declares classes
    assert source[0].captions == ("a", "b") and np.array_equal(source[2].pixels, np.asarray(picture(2)))
    assert np.array_equal(opened(tmp_path / "two", picture="mask")[0].pixels, np.asarray(picture(9)))
    assert "data.source.columns={text: caption}" in opened(tmp_path / "two", picture="image").summary.sentence()
    assert "has no column titel" in refused(tmp_path / "two", picture="image", columns={"text": "titel"})
    assert "picture=kind is no column of pictures" in refused(tmp_path / "two", picture="kind")
    links = datasets.Dataset.from_dict({"url": ["https://example.org/a.png"], "caption": ["a"]})
    links.save_to_disk(tmp_path / "links")
    assert "no column of pictures; found url string, caption string" in refused(tmp_path / "links")


def test_plain_bytes_and_structs_are_pictures(tmp_path: Path) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    stored = [png(number) for number in range(COUNT)]
    parquet.write_table(arrow.table({"jpg": stored, "name": [str(n) for n in range(COUNT)]}), tmp_path / "bytes.parquet")
    parquet.write_table(arrow.table({"image": [{"bytes": one, "path": None} for one in stored]}), tmp_path / "struct.parquet")
    for name in ("bytes", "struct"):
        source = opened(tmp_path / f"{name}.parquet")
        assert all(np.array_equal(source[number].pixels, np.asarray(picture(number))) for number in range(COUNT))


def test_other_columns_are_attributes(tmp_path: Path) -> None:
    more = {
        "magnification": ([10.0, None, 40.0, 20.0, 20.0, 20.0], datasets.Value("float32")),
        "stain": ([0, 1, -1, 0, 0, 0], datasets.ClassLabel(names=["HE", "PAS"])),
        "file_name": ([f"slide {number}" for number in range(COUNT)], datasets.Value("string")),
    }
    table(**more).save_to_disk(tmp_path / "a")
    source = opened(tmp_path / "a")
    assert [dict(source[index].attributes) for index in range(3)] == [
        {"magnification": 10.0, "stain": "HE"},
        {"stain": "PAS"},
        {"magnification": 40.0},
    ]
    assert source.sample_id(4) == "slide 4"
    columns = columns_of(pickle.loads(pickle.dumps(source)))
    assert columns["magnification"].at(0) == 10 and columns["magnification"].missing == 1
    assert [columns["stain"].at(index) for index in range(3)] == ["HE", "PAS", None]
    assert columns.unused([]) == ("magnification", "stain")


def test_unlabelled_rows_are_bad_and_a_hidden_split_has_no_classes(tmp_path: Path) -> None:
    hidden = table().map(lambda row: {"label": -1})
    hidden.save_to_disk(tmp_path / "hidden")
    source = opened(tmp_path / "hidden")
    assert source.class_names == () and "labels on 0 of 6 ignored" in source.summary.sentence()


def test_workers_read_the_same(tmp_path: Path) -> None:
    table().save_to_disk(tmp_path / "a")
    source = opened(tmp_path / "a")
    ranges = [range(4), range(4, 8)]

    def ids(workers: int) -> list[tuple[tuple[str, ...], bytes]]:
        batches = read_batches(source, TransformConfig(size_px=8), seed=1, position_ranges=ranges, workers=workers)
        return [(batch.ids, batch.pixels.numpy().tobytes()) for batch in batches]

    assert ids(0) == ids(1)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(source.sample_id, (3,)) == source.sample_id(3)


def test_what_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    assert "contains no parquet or arrow files" in refused(tmp_path / "empty")
    (tmp_path / "empty" / "a.tar").touch()
    assert "data.source.kind=shards" in refused(tmp_path / "empty")
    assert "does not exist" in refused(tmp_path / "no such table here.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 but not really PAR1")
    assert "broken.parquet cannot be read" in refused(tmp_path / "broken.parquet")
    (tmp_path / "a.csv").write_text("a\n")
    assert "no table" in refused(tmp_path / "a.csv")
    with pytest.raises(ValueError, match="captions has no effect"):
        HuggingFaceConfig(path="x", captions="whole")
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'open-ldm\[data\]'"):
        opened(tmp_path)


def test_a_hub_name_goes_to_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []

    def load(path: str, **settings: Any) -> Any:
        asked.append((path, settings))
        if "missing" in path:
            raise ConnectionError("Couldn't reach the hub\nwith a second line")
        return datasets.DatasetDict({"train": table(), "test": table()})

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.chdir(tmp_path)
    source = HuggingFaceConfig(path="owner/set", split="train", subset="small", revision="abc").open()
    assert asked == [("owner/set", {"name": "small", "revision": "abc"})] and len(source) == COUNT
    assert "as a hub name: Couldn't reach the hub; needed" in refused(Path("owner/missing"), split="train")
    table().save_to_disk("owner/local")
    assert len(opened(Path("owner/local"))) == COUNT and len(asked) == 2


def test_errors_have_their_kind(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        opened(tmp_path / "nothing at all")
    datasets.Dataset.from_dict({"image": []}).save_to_disk(tmp_path / "none")
    with pytest.raises(DataError):
        opened(tmp_path / "none")
    assert json.loads(HuggingFaceConfig(path="x").model_dump_json())["kind"] == "huggingface"
