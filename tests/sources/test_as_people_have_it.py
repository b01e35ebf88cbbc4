"""Inputs as people have them that were once read wrongly without a word: captions, metadata, class numbers, splits, shards."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from open_ldm.core.errors import ConfigError, DataError, OpenLdmError
from open_ldm.data.sample import BadPicture
from open_ldm.data.survey import survey
from open_ldm.sources import open_source
from open_ldm.sources.folder import BAD_CAPTION, FolderConfig, FolderSource
from open_ldm.sources.metadata import read_metadata
from open_ldm.sources.shards import ShardsConfig, ShardsSource

Encode = Callable[..., bytes]
Tar = Callable[..., Path]


def folder(path: Path, **settings: Any) -> FolderSource:
    return FolderConfig(path=path, **settings).open()


def shards(path: Path | str, **settings: Any) -> ShardsSource:
    return ShardsConfig(path=str(path), **settings).open()


def fill(root: Path, content: bytes, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def refused(open_it: Callable[[], object]) -> str:
    with pytest.raises(OpenLdmError) as caught:
        open_it()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def rows(*contents: dict[str, Any]) -> str:
    return "".join(json.dumps(content) + "\n" for content in contents)


# Splits


@pytest.mark.parametrize("names", [("train", "test"), ("Train", "validation"), ("train", "val", "test"), ("training", "dev")])
def test_folders_that_are_all_splits_are_no_classes(names: tuple[str, ...], tmp_path: Path, encode: Encode) -> None:
    for name in names:
        fill(tmp_path, encode(), f"{name}/a.png", f"{name}/b.png")
        (tmp_path / name / "metadata.jsonl").write_text(rows({"file_name": "a.png", "text": name}))
    said = refused(lambda: folder(tmp_path))
    assert "splits" in said and f"data.source.split={names[0]}" in said and str(tmp_path / names[0]) in said
    source = folder(tmp_path, split=names[0])
    assert (len(source), source.captions(), source.class_names) == (1, [names[0]], ())
    assert "did you mean 'test'" in refused(lambda: folder(fill(tmp_path, encode(), "test/c.png"), split="tst"))


def test_a_class_of_trains_beside_cars_stays_a_class(tmp_path: Path, encode: Encode) -> None:
    fill(tmp_path, encode(), "train/a.png", "car/b.png")
    assert folder(tmp_path).class_names == ("car", "train")
    fill(tmp_path / "only", encode(), "train/x/a.png", "train/y/b.png")
    assert folder(tmp_path / "only").class_names == ("x", "y")
    split = fill(tmp_path / "both", encode(), "train/x/a.png", "train/y/b.png", "test/x/a.png")
    assert folder(split, split="train").class_names == ("x", "y")


# Metadata that is nearly named as it should be


@pytest.mark.parametrize("name", ["Metadata.jsonl", "METADATA.CSV"])
def test_metadata_in_capital_letters_are_read(name: str, tmp_path: Path, encode: Encode) -> None:
    fill(tmp_path, encode(), "a.png")
    (tmp_path / name).write_text(
        "file_name,text\na.png,words\n" if name.endswith("CSV") else rows({"file_name": "a.png", "text": "words"})
    )
    assert folder(tmp_path).captions() == ["words"]


def test_parquet_metadata_are_read(tmp_path: Path, encode: Encode) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    fill(tmp_path, encode(), "a.png", "b.png")
    table = arrow.table({"file_name": ["b.png", "a.png"], "text": [["one", "two"], None], "label": [1, 0]})
    parquet.write_table(table, tmp_path / "metadata.parquet")
    source = folder(tmp_path)
    assert ([source.captions_of(i) for i in range(2)], [source.label_of(i) for i in range(2)]) == ([(), ("one", "two")], [0, 1])


@pytest.mark.parametrize("name", ["captions.csv", "metadata.json", "labels.txt", "sub/annotations.json", "metadata.tsv"])
def test_a_file_that_looks_like_metadata_is_named(name: str, tmp_path: Path, encode: Encode) -> None:
    fill(tmp_path, encode(), "a.png", "sub/b.png")
    fill(tmp_path, b"x", name)
    assert f"{name} not read: metadata.jsonl" in folder(tmp_path).summary.sentence()
    fill(tmp_path / "plain", encode(), "a.png")
    fill(tmp_path / "plain", b"x", "readme.md", "notes.txt")
    assert "not read" not in folder(tmp_path / "plain").summary.sentence()


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_columns_of_other_names_are_named_and_read_when_asked(kind: str, tmp_path: Path, encode: Encode) -> None:
    fill(tmp_path, encode(), "a.png", "b.png")
    contents = [{"file_name": f"{name}.png", "caption": f"the {name}", "class": f"class {name}"} for name in "ab"]
    if kind == "csv":
        lines = ["file_name,caption,class", *(",".join(content.values()) for content in contents)]
        (tmp_path / "metadata.csv").write_text("\n".join(lines) + "\n")
    else:
        (tmp_path / "metadata.jsonl").write_text(rows(*contents))
    unread = folder(tmp_path)
    assert "data.source.columns={text: caption, label: class}" in unread.summary.sentence() and not unread.captions()
    source = folder(tmp_path, columns={"text": "caption", "label": "class"})
    assert (source.captions(), source.class_names) == (["the a", "the b"], ("class a", "class b"))
    assert "not read" not in source.summary.sentence()
    assert "no column stain" in refused(lambda: folder(tmp_path, columns={"label": "stain"}))


def test_the_column_of_file_names_can_be_named(tmp_path: Path, encode: Encode) -> None:
    fill(tmp_path, encode(), "a.png")
    (tmp_path / "metadata.jsonl").write_text(rows({"image": "a.png", "text": "x"}))
    assert "data.source.columns={file_name: image}" in refused(lambda: folder(tmp_path))
    assert folder(tmp_path, columns={"file_name": "image"}).captions() == ["x"]
    (tmp_path / "metadata.jsonl").unlink()
    assert "has no metadata" in refused(lambda: folder(tmp_path, columns={"text": "x"}))


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("metadata.csv", "file_name,text,text\na.png,x,y\n"),
        ("metadata.jsonl", '{"file_name": "a.png", "text": "x", "text": "y"}'),
    ],
)
def test_a_column_given_twice_is_refused(file: str, content: str, tmp_path: Path, encode: Encode) -> None:
    fill(tmp_path, encode(), "a.png")
    (tmp_path / file).write_text(content)
    assert "text" in (said := refused(lambda: folder(tmp_path))) and ("two columns" in said or "twice" in said)


SPELLINGS = [("images/a.png", "images\\a.png"), ("images/caf\u00e9.png", "images/cafe\u0301.png")]


@pytest.mark.parametrize("on_disk", [0, 1])
@pytest.mark.parametrize("names", SPELLINGS)
def test_a_file_named_twice_in_two_spellings_is_refused(
    names: tuple[str, str], on_disk: int, tmp_path: Path, encode: Encode
) -> None:
    (tmp_path / "images").mkdir()
    for name in (names[on_disk].replace("\\", "/"), "images/b.png"):
        (tmp_path / name).write_bytes(encode())
    rows = "".join(f"{name},x\n" for name in (names[0], "images/b.png", names[1]))
    (tmp_path / "metadata.csv").write_text(f"file_name,text\n{rows}", encoding="utf-8")
    said = refused(lambda: folder(tmp_path))
    assert "metadata.csv names images/" in said and "in two spellings; fix: keep one of its rows, with" in said


def test_two_files_whose_names_differ_in_spelling_alone_are_two(tmp_path: Path, encode: Encode) -> None:
    names = SPELLINGS[1]
    (tmp_path / "images").mkdir()
    for name in names:
        (tmp_path / name).write_bytes(encode())
    if len(list((tmp_path / "images").iterdir())) < 2:
        pytest.skip("this disk takes both for one")
    (tmp_path / "metadata.csv").write_text("file_name\n" + "".join(f"{name}\n" for name in names), encoding="utf-8")
    assert len(folder(tmp_path)) == 2


def test_backslashes_of_windows_are_folders(tmp_path: Path, encode: Encode) -> None:
    fill(tmp_path, encode(), "images/p0.png", "images/deep/p1.png")
    (tmp_path / "metadata.jsonl").write_text(
        rows({"file_name": "images\\p0.png", "text": "x"}, {"file_name": "images\\deep\\p1.png", "text": "y"})
    )
    source = folder(tmp_path)
    assert [source.sample_id(i) for i in range(2)] == ["images/deep/p1.png", "images/p0.png"]
    assert source.captions() == ["y", "x"] and source[0].pixels.shape == (24, 32, 3)


def test_giant_sizes_in_metadata_name_the_line(tmp_path: Path, encode: Encode) -> None:
    fill(tmp_path, encode(), "a.png")
    (tmp_path / "metadata.jsonl").write_text(rows({"file_name": "a.png", "original_height": 2**31, "original_width": 4}))
    assert "line 1: original_height=2147483648" in refused(lambda: folder(tmp_path))
    (tmp_path / "metadata.jsonl").write_text(
        '{"file_name": "a.png", "original_height": ' + "9" * 5000 + ', "original_width": 4}'
    )
    assert "line 1" in refused(lambda: folder(tmp_path))


# Captions


CAPTION_FILES = {"p.txt": "a", "p.caption": "a", "p.TXT": "a", "p.Caption": "a"}


@pytest.mark.parametrize("name", CAPTION_FILES)
def test_captions_beside_pictures_have_several_names(name: str, tmp_path: Path, encode: Encode) -> None:
    fill(tmp_path, encode(), "p.png", "q.png")
    (tmp_path / name).write_text("words")
    source = folder(tmp_path)
    assert [source.captions_of(index) for index in range(2)] == [("words",), ()]
    (tmp_path / "p.txt").write_text("these")  # .txt goes first, as it always did
    assert folder(tmp_path).captions() == ["these"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be-sig"])
def test_captions_in_utf16_with_their_mark_are_read(encoding: str, tmp_path: Path, encode: Encode, tar: Tar) -> None:
    text = "café 7 it’s"
    content = b"\xfe\xff" + text.encode("utf-16-be") if encoding == "utf-16-be-sig" else text.encode(encoding)
    fill(tmp_path, encode(), "p.png")
    (tmp_path / "p.txt").write_bytes(content)
    assert folder(tmp_path).captions() == [text]
    assert shards(tar(tmp_path / "a.tar", {"p.png": encode(), "p.txt": content})).captions() == [text]
    (tmp_path / "p.txt").unlink()
    (tmp_path / "metadata.csv").write_bytes("file_name,text\np.png,café\n".encode("utf-16"))
    assert folder(tmp_path).captions() == ["café"]


def test_other_encodings_are_named_and_harm_no_run_that_reads_no_captions(tmp_path: Path, encode: Encode, tar: Tar) -> None:
    content = "café it’s".encode("cp1252")
    fill(tmp_path / "d", encode(), "p.png")
    (tmp_path / "d" / "p.txt").write_bytes(content)
    shard = tar(tmp_path / "a.tar", {"p.png": encode(), "p.txt": content})
    for config, name in (
        (FolderConfig(path=tmp_path / "d"), "p.txt is not UTF-8"),
        (ShardsConfig(path=str(shard)), "text is not UTF-8"),
    ):
        with pytest.raises(BadPicture) as verdict:
            open_source(config)[0]
        assert verdict.value.reason in (BAD_CAPTION, "unreadable caption")
        assert f"{name}; fix: save it as UTF-8" in str(verdict.value)
        without = open_source(config, captions=False)
        assert (without[0].pixels.shape, without[0].captions) == ((24, 32, 3), ())
        assert without.fingerprint == open_source(config).fingerprint


def test_a_caption_file_of_several_lines_is_said_and_can_be_one_caption(tmp_path: Path, encode: Encode, tar: Tar) -> None:
    fill(tmp_path, encode(), "p.png", "q.png")
    (tmp_path / "p.txt").write_text("one\n two \n\nthree\n")
    (tmp_path / "q.txt").write_text("single\n")
    lines, whole = folder(tmp_path), folder(tmp_path, captions="whole")
    assert (lines.captions_of(0), whole.captions_of(0)) == (("one", "two", "three"), ("one two three",))
    assert lines.captions_of(1) == whole.captions_of(1) == ("single",)
    assert "1 caption files of several lines: each line is a caption" in lines.summary.sentence()
    assert "each file is one caption" in whole.summary.sentence()
    assert lines.hashes.pictures == whole.hashes.pictures and lines.hashes.captions != whole.hashes.captions
    shard = tar(tmp_path / "a.tar", {"p.png": encode(), "p.txt": b"one\ntwo"})
    lines, whole = shards(shard), shards(shard, captions="whole")
    assert (lines.captions(), whole.captions()) == (["one", "two"], ["one two"])
    assert lines.hashes.pictures == whole.hashes.pictures and lines.hashes.captions != whole.hashes.captions
    assert lines.fingerprint != whole.fingerprint


# Class numbers


def labelled(tmp_path: Path, encode: Encode, labels: list[int]) -> Path:
    names = [f"{number:03}.png" for number in range(len(labels))]
    fill(tmp_path, encode(), *names)
    (tmp_path / "metadata.jsonl").write_text(
        rows(*({"file_name": name, "label": label} for name, label in zip(names, labels, strict=True)))
    )
    return tmp_path


def test_one_wrong_class_number_makes_no_hundred_thousand_classes(tmp_path: Path, encode: Encode, tar: Tar) -> None:
    members = {f"{number}.{suffix}": content for number in range(4) for suffix, content in (
        ("png", encode()), ("cls", b"99999" if number == 3 else b"%d" % number))}  # fmt: skip
    said = refused(lambda: shards(tar(tmp_path / "a.tar", members)))
    assert "4 distinct numbers and the largest is 99,999, after 2" in said
    assert "largest is 41, after 2" in refused(lambda: folder(labelled(tmp_path / "b", encode, [0, 1, 2, 41])))


def test_smaller_gaps_are_said_and_kept(tmp_path: Path, encode: Encode) -> None:
    source = folder(labelled(tmp_path, encode, [0, 1, 40, 3]))
    assert len(source.class_names) == 41
    assert "no picture of class 2, 4, 5, 6, 7 and 32 more" in source.summary.sentence()
    (tmp_path / "classes.json").write_text(json.dumps([str(number) for number in range(1000)]))
    assert len(folder(tmp_path).class_names) == 1000
    assert "no picture of class 2, 4, 5, 6, 7 and 991 more" in folder(tmp_path).summary.sentence()


# Shards


def test_several_pictures_of_one_webdataset_key_are_refused_until_one_is_named(
    tmp_path: Path, tar: Tar, encode: Encode, image: Callable[..., Image.Image]
) -> None:
    nested, plain = {}, {}
    for number in range(3):
        photo, mask = encode(image(20, 30, seed=number)), encode(image(20, 30, seed=9 + number))
        nested |= {
            f"d/{number:04}.mask.png": mask,
            f"d/{number:04}.photo.png": photo,
            f"d/{number:04}.txt": b"a thing %d" % number,
        }
        plain |= {f"{number:04}.jpg": photo, f"{number:04}.seg.png": mask, f"{number:04}.json": b'{"text": "x", "label": "y"}'}
    path = tar(tmp_path / "a.tar", nested)
    said = refused(lambda: shards(path))
    assert "two pictures for key d/0000: .mask.png, .photo.png" in said and "data.source.picture=photo.png" in said
    source = shards(path, picture="photo.png")
    assert source.captions() == ["a thing 0", "a thing 1", "a thing 2"] and source.sample_id(0) == "a/d/0000"
    np.testing.assert_array_equal(source[1].pixels, np.asarray(image(20, 30, seed=1)))
    assert "3 other members ignored: .mask.png 3" in source.summary.sentence()
    np.testing.assert_array_equal(shards(path, picture="mask.png")[2].pixels, np.asarray(image(20, 30, seed=11)))
    assert "found .mask.png, .photo.png" in refused(lambda: shards(path, picture="image.png"))
    path = tar(tmp_path / "b.tar", plain)
    assert "two pictures for key 0000: .jpg, .seg.png" in refused(lambda: shards(path))
    assert shards(path, picture="jpg").class_names == ("y",)


def test_masks_without_any_captions_are_no_training_pictures_either(tmp_path: Path, tar: Tar, encode: Encode) -> None:
    path = tar(tmp_path / "a.tar", {f"{n}.{part}.png": encode() for n in range(2) for part in ("image", "mask")})
    assert "two pictures for key 0: .image.png, .mask.png" in refused(lambda: shards(path))


def test_one_picture_with_a_dot_takes_what_its_webdataset_key_has(tmp_path: Path, tar: Tar, encode: Encode) -> None:
    members = {
        "0.photo.png": encode(),
        "0.txt": b"a thing",
        "0.cls": b"0",
        "1.photo.png": encode(),
        "1.txt": b"x",
        "1.photo.txt": b"own",
    }
    source = shards(tar(tmp_path / "a.tar", members))
    assert [source.captions_of(i) for i in range(2)] == [("a thing",), ("own",)]
    assert [source.sample_id(i) for i in range(2)] == ["a/0.photo", "a/1.photo"]


def test_keys_with_dots_stay_samples_of_their_own(tmp_path: Path, tar: Tar, encode: Encode) -> None:
    members: dict[str, bytes] = {}
    for key in ("cat.v1", "cat.v2", "dog.v1", "dog.v2"):
        members |= {f"{key}.jpg": encode(None, "JPEG"), f"{key}.txt": key.encode()}
    source = shards(tar(tmp_path / "a.tar", members))
    assert source.captions() == ["cat.v1", "cat.v2", "dog.v1", "dog.v2"]
    assert (
        "2 times several keys differ only behind a dot, where WebDataset's reader sees one sample" in source.summary.sentence()
    )


def test_every_format_that_folders_read_is_read_and_the_rest_is_counted(tmp_path: Path, tar: Tar, encode: Encode) -> None:
    kinds = {"png": "PNG", "tif": "TIFF", "bmp": "BMP", "gif": "GIF", "webp": "WEBP", "jpeg": "JPEG"}
    members = {f"{suffix}.{suffix}": encode(None, kind) for suffix, kind in kinds.items()}
    path = tar(tmp_path / "a.tar", members | {"x.psd": b"?", "y.psd": b"?", "z.xmp": b"?", "w.caption": b"no picture"})
    for _ in range(2):  # from the headers, and from the cached index
        source = shards(path)
        assert len(source) == 6 and all(source[index].pixels.shape == (24, 32, 3) for index in range(6))
        assert "1 key without a picture ignored; 3 other members ignored: .psd 2, .xmp 1" in source.summary.sentence()


@pytest.mark.parametrize("victim", [1, 6, 11])
def test_zeros_over_a_header_inside_a_shard_are_damage(
    victim: int, tmp_path: Path, tar: Tar, encode: Encode, image: Callable[..., Image.Image]
) -> None:
    path = tar(tmp_path / "a.tar", {f"{number:02}.png": encode(image(150, 150)) for number in range(12)})
    assert len(shards(path)) == 12
    with tarfile.open(path) as archive:
        start = archive.getmembers()[victim].offset
    content = bytearray(path.read_bytes())
    content[start : start + 1024] = bytes(1024)
    path.write_bytes(content)
    said = refused(lambda: shards(path))
    assert "a.tar is truncated or damaged at byte" in said and f"byte {start:,}" in said and "with more behind it" in said


def test_one_sample_with_a_giant_size_is_bad_and_the_rest_is_read(tmp_path: Path, tar: Tar, encode: Encode) -> None:
    sizes = ["2147483648", "9" * 5000, "9" * 30, "2147483647"]
    members = {}
    for number, height in enumerate(sizes):
        members |= {
            f"{number}.png": encode(),
            f"{number}.json": f'{{"original_height": {height}, "original_width": 3}}'.encode(),
        }
    source = shards(tar(tmp_path / "a.tar", members))
    for index in range(3):
        with pytest.raises(BadPicture, match=r"unreadable \.json"):
            source[index]
    assert source[3].original_height_px == 2**31 - 1


@pytest.mark.parametrize(
    "pattern", ["set [v2]/a.tar", "set [v2]/*.tar", "set [v2]", "x{0000..0002}.tar", "x{0000,0002}.tar", "{a,b}/a.tar"]
)
def test_paths_with_brackets_and_braces(pattern: str, tmp_path: Path, tar: Tar, encode: Encode) -> None:
    for name in ("set [v2]/a.tar", "x0000.tar", "x0001.tar", "x0002.tar", "{a,b}/a.tar"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        tar(tmp_path / name, {"0.png": encode()})
    assert len(shards(tmp_path / pattern)) == (3 if ".." in pattern else 2 if pattern.startswith("x") else 1)
    assert "x0003.tar" in refused(lambda: shards(tmp_path / "x{0000..0005}.tar"))


def test_a_folder_of_tar_files_says_so(tmp_path: Path, tar: Tar, encode: Encode) -> None:
    tar(tmp_path / "a.tar", {"0.png": encode()})
    assert "data.source.kind=shards" in refused(lambda: folder(tmp_path))


# Sizes of turned photographs


def test_noted_sizes_follow_the_upright_picture(
    tmp_path: Path, tar: Tar, encode: Encode, image: Callable[..., Image.Image]
) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    stored = image(24, 48)  # lying on its side: 48 high and 24 wide when upright
    content, plain = encode(stored, "JPEG", exif=turned), encode(stored, "JPEG")
    noted = {"original_height": 240, "original_width": 480}
    upright = {"original_height": 480, "original_width": 240}
    samples = [
        (content, noted, (480, 240)),
        (content, upright, (480, 240)),
        (plain, noted, (240, 480)),
        (plain, upright, (480, 240)),
    ]
    members, listed = {}, []
    for number, (picture, sizes, _) in enumerate(samples):
        members |= {f"{number}.jpg": picture, f"{number}.json": json.dumps(sizes).encode()}
        fill(tmp_path / "d", picture, f"{number}.jpg")
        listed.append({"file_name": f"{number}.jpg", **sizes})
    (tmp_path / "d" / "metadata.jsonl").write_text(rows(*listed))
    for source in (folder(tmp_path / "d"), shards(tar(tmp_path / "a.tar", members))):
        for index, (_, _, size) in enumerate(samples):
            sample = source[index]
            assert (sample.original_height_px, sample.original_width_px) == source.size_of(index) == size


def test_names_of_json_values_in_shards_can_be_chosen(tmp_path: Path, tar: Tar, encode: Encode) -> None:
    content = json.dumps({"caption": "words", "stain": "HE", "height": 7, "width": 9}).encode()
    columns = {"text": "caption", "label": "stain", "original_height": "height", "original_width": "width"}
    path = tar(tmp_path / "a.tar", {"0.png": encode(), "0.json": content})
    source = shards(path, columns=columns)
    assert (source.captions(), source.class_names, source.size_of(0)) == (["words"], ("HE",), (7, 9))
    assert shards(path).captions() == []


def test_a_survey_of_a_wrong_split_is_a_config_error(tmp_path: Path, encode: Encode) -> None:
    fill(tmp_path, encode(), "train/a.png", "test/b.png")
    with pytest.raises(ConfigError):
        folder(tmp_path, split="nowhere")
    with pytest.raises(DataError):
        survey(folder(tmp_path))


def test_a_survey_that_decodes_finds_damage_behind_the_header(
    tmp_path: Path, tar: Tar, encode: Encode, image: Callable[..., Image.Image]
) -> None:
    whole = encode(image(200, 200), "JPEG")
    fill(tmp_path / "d", whole, "a.jpg", "b.jpg")
    fill(tmp_path / "d", whole[: len(whole) // 2], "broken.jpg")
    shard = tar(tmp_path / "a.tar", {"a.jpg": whole, "broken.jpg": whole[: len(whole) // 2]})
    for source, count in ((folder(tmp_path / "d"), 3), (shards(shard), 2)):
        quick, thorough = survey(source), survey(source, 1, decode=True)
        assert not quick.bad and "decoded" not in quick.to_json() and "examined" in quick.text()
        assert [Path(bad.id).stem for bad in thorough.bad] == ["broken"] and thorough.bad[0].reason == "truncated or damaged"
        assert thorough.decoded == thorough.to_json()["decoded"] == count and f"{count} decoded" in thorough.text()


def test_a_csv_label_of_thousands_of_digits_is_a_name(tmp_path: Path) -> None:
    path = tmp_path / "metadata.csv"
    path.write_text("file_name,label\na.png,1\nb.png," + "9" * 5000 + "\n")
    assert [row.label for row in read_metadata(path).rows] == ["1", "9" * 5000]
    path.write_text("file_name,label\na.png,-1\nb.png,12\n")
    assert [row.label for row in read_metadata(path).rows] == [-1, 12]
