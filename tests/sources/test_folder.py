from __future__ import annotations

import json
import os
import pickle
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from open_ldm.core.errors import ConfigError, DataError, OpenLdmError
from open_ldm.data import pictures
from open_ldm.data.sample import BadPicture
from open_ldm.data.survey import survey
from open_ldm.sources.folder import BAD_CAPTION, FolderConfig, FolderSource
from open_ldm.sources.labels import BAD_LABEL
from open_ldm.sources.shards import ShardsConfig

Encode = Callable[..., bytes]


def opened(path: Path) -> FolderSource:
    return FolderConfig(path=path).open()


def fill(root: Path, content: bytes, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def lines(*rows: object) -> str:
    return "\n".join(json.dumps(row) for row in rows)


def test_flat_folder(tmp_path: Path, encode: Encode) -> None:
    fill(tmp_path, encode(), "b.PNG", "a.jpg", "deep/er/c.webp", ".DS_Store", "._a.jpg", ".git/x.png", "notes.md")
    source = opened(tmp_path)
    assert [source.sample_id(i) for i in range(len(source))] == ["a.jpg", "b.PNG", "deep/er/c.webp"]
    assert source.summary.sentence() == "3 pictures, no classes, no captions (flat; 1 other file ignored: .md 1)"
    sample = source[0]
    assert (sample.label, sample.captions, sample.pixels.shape) == (None, (), (24, 32, 3))
    assert (sample.original_height_px, sample.original_width_px) == source.size_of(0) == (24, 32)
    assert source.class_names == ()
    assert source.captions() == []


def test_class_folders(tmp_path: Path, encode: Encode) -> None:
    fill(tmp_path / "train", encode(), "dog/1.png", "cat/1.png", "cat/sub/2.png")
    source = opened(tmp_path)
    assert source.summary.sentence() == "3 pictures, 2 classes, no captions (class folders)"
    assert source.class_names == ("cat", "dog")
    assert [(source.sample_id(i), source[i].label) for i in range(3)] == [
        ("cat/1.png", 0),
        ("cat/sub/2.png", 0),
        ("dog/1.png", 1),
    ]


def test_sidecar_captions(tmp_path: Path, encode: Encode) -> None:
    fill(tmp_path, encode(), "a.png", "b.png", "c.png")
    (tmp_path / "a.txt").write_text("first\n\n  second \n")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\xfa")
    source = opened(tmp_path)
    said = "; 1 caption files of several lines: each line is a caption (data.source.captions=whole makes a file one)"
    assert source.summary.sentence() == f"3 pictures, no classes, 1 caption (flat, sidecar captions{said})"
    assert source[0].captions == ("first", "second")
    assert source.captions() == ["first", "second"]
    with pytest.raises(BadPicture) as verdict:
        source[1]
    assert verdict.value.reason == BAD_CAPTION
    assert source[2].captions == ()


def test_metadata_jsonl(tmp_path: Path, encode: Encode) -> None:
    fill(tmp_path, encode(), "x/b.png", "x/a.png", "x/spare.png")
    rows = [
        {"file_name": "x/b.png", "text": ["one", " ", "two"], "label": "dog"} | {"original_height": 240, "original_width": 320},
        {"file_name": "./x/a.png", "text": "three", "label": "cat", "camera": "ignored"},
    ]
    (tmp_path / "metadata.jsonl").write_text(lines(*rows) + "\n\n")
    source = opened(tmp_path)
    words = "metadata.jsonl; 1 picture not listed in it"
    assert source.summary.sentence() == f"2 pictures, 2 classes, captions ({words})"
    assert source.sample_id(0) == "x/a.png"
    assert (source[0].label, source[0].captions) == (0, ("three",))
    assert (source[1].label, source[1].captions) == (1, ("one", "two"))
    assert source.size_of(1) == (240, 320) == (source[1].original_height_px, source[1].original_width_px)
    assert source.size_of(0) == (24, 32)


def test_metadata_csv(tmp_path: Path, encode: Encode) -> None:
    fill(tmp_path, encode(), "a.png", "b.png")
    (tmp_path / "metadata.csv").write_text(
        "\ufefffile_name,text,label,original_width,original_height\r\n"
        'a.png,"one, ""two""",3,,\r\n'
        'b.png,"[""x"", ""y""]",0,64,48\r\n',
        encoding="utf-8",
    )
    source = opened(tmp_path)
    assert source.class_names == ("0", "1", "2", "3")
    assert source[0].captions == ('one, "two"',)
    assert source[1].captions == ("x", "y")
    assert (source.label_of(0), source.size_of(0)) == (3, (24, 32))
    assert (source.label_of(1), source.size_of(1)) == (0, (48, 64))


def test_classes_json_names_the_numbers(tmp_path: Path, encode: Encode) -> None:
    fill(tmp_path, encode(), "a.png")
    (tmp_path / "metadata.jsonl").write_text(lines({"file_name": "a.png", "label": 1}))
    (tmp_path / "classes.json").write_text('["cat", "dog", "emu"]')
    assert opened(tmp_path).class_names == ("cat", "dog", "emu")
    assert "no picture of class cat, emu" in opened(tmp_path).summary.sentence()


def refused(path: Path) -> OpenLdmError:
    with pytest.raises(OpenLdmError) as error:
        opened(path)
    assert "\n" not in str(error.value)
    return error.value


def test_wrong_paths_are_config_errors(tmp_path: Path, encode: Encode) -> None:
    fill(tmp_path, encode(), "pictures/a.png", "emoji/b.png")
    missing = refused(tmp_path / "picturs")
    assert isinstance(missing, ConfigError)
    assert "does not exist" in str(missing)
    assert "did you mean 'pictures'" in str(missing)
    a_file = refused(tmp_path / "pictures" / "a.png")
    assert isinstance(a_file, ConfigError)
    assert "is a file" in str(a_file) and f"fix: try {tmp_path / 'pictures'}" in str(a_file)
    (tmp_path / "samples.npz").write_bytes(b"")
    other = str(refused(tmp_path / "samples.npz"))
    assert "samples.npz is a file; needed: a folder of pictures" in other and "try" not in other
    assert "check the path" in str(refused(tmp_path / "no" / "such" / "place"))


@pytest.mark.parametrize("kind", ["folder", "shards"])
def test_a_relative_path_is_said_with_the_folder_it_is_taken_from(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as raised:
        FolderConfig(path=Path("data/mine")).open() if kind == "folder" else ShardsConfig(path="data/mine").open()
    said = raised.value
    assert "source.path data/mine " in said.problem and f"a relative path starts from this folder, {tmp_path}" in said.needed
    assert said.fix.startswith("start") and "(for a run: where it was trained), or give the full path" in said.fix
    assert "\n" not in str(said)


BAD_METADATA = {
    "not json": ("metadata.jsonl", '{"file_name": "a.png"}\n{"file_name": ', "line 2 is not JSON"),
    "not an object": ("metadata.jsonl", '["a.png"]', "line 1 contains a list"),
    "no file_name": ("metadata.jsonl", '{"file": "a.png", "text": "x"}', "needed: file_name; found file, text"),
    "empty": ("metadata.jsonl", "\n", "has no rows"),
    "twice": ("metadata.jsonl", '{"file_name": "a.png"}\n{"file_name": "./a.png"}', "line 2 names a.png again"),
    "outside": ("metadata.jsonl", '{"file_name": "../a.png"}', "is outside the folder"),
    "absolute": ("metadata.jsonl", '{"file_name": "/a.png"}', "is outside the folder"),
    "text of another type": ("metadata.jsonl", '{"file_name": "a.png", "text": 3}', "text is 3"),
    "list of other things": ("metadata.jsonl", '{"file_name": "a.png", "text": ["x", 3]}', "needed: a string or"),
    "label of another type": ("metadata.jsonl", '{"file_name": "a.png", "label": 1.5}', "label is 1.5"),
    "half a size": ("metadata.jsonl", '{"file_name": "a.png", "original_width": 3}', "original_height=None"),
    "negative size": ("metadata.jsonl", '{"file_name": "a.png", "original_width": 3, "original_height": -3}', "above"),
    "missing file": ("metadata.jsonl", '{"file_name": "absent.png"}', "1 of 1 files does not exist: absent.png"),
    "mixed labels": (
        "metadata.jsonl", '{"file_name": "a.png", "label": 1}\n{"file_name": "b.png", "label": "x"}', "mixes labels",
    ),
    "csv without column": ("metadata.csv", "name,text\na.png,x\n", "no column file_name; needed: file_name; found"),
    "csv with a cell too many": ("metadata.csv", "file_name,text\na.png,x,y\n", "line 2 does not have one value per"),
    "csv with a cell too few": ("metadata.csv", "file_name,text\na.png\n", "line 2 does not have one value per column"),
    "csv with an open quote": ("metadata.csv", 'file_name,text\na.png,"x\n', "is not CSV"),
    "csv half a size": ("metadata.csv", "file_name,original_width,original_height\na.png,x,3\n", "original_width='x'"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_METADATA)
def test_malformed_metadata_is_one_line(name: str, tmp_path: Path, encode: Encode) -> None:
    file, content, expected = BAD_METADATA[name]
    fill(tmp_path, encode(), "a.png", "b.png")
    (tmp_path / file).write_text(content)
    error = refused(tmp_path)
    assert isinstance(error, DataError)
    assert error.exit_code == 65
    assert expected in str(error)


def test_other_unusable_folders(tmp_path: Path, encode: Encode) -> None:
    assert "contains no pictures; needed: files ending in .jpg" in str(refused(fill(tmp_path / "empty", b"", ".keep")))
    assert "(2 other files: .md 1, .txt 1)" in str(refused(fill(tmp_path / "text", b"x", "a.txt", "b.md")))
    both = fill(tmp_path / "both", encode(), "a.png")
    fill(both, b"", "metadata.csv", "metadata.jsonl")
    assert "contains both metadata.jsonl and metadata.csv" in str(refused(both))
    binary = fill(tmp_path / "binary", encode(), "a.png")
    assert "not UTF-8" in str(refused(fill(binary, b"\xff\xfe\x00", "metadata.jsonl")))
    classes = fill(tmp_path / "classes", encode(), "x/a.png", "y/b.png")
    for wrong, expected in (("{", "as JSON"), ("{}", "not a list"), ("[1]", "not a list"), ('["a","a"]', "twice")):
        (classes / "classes.json").write_text(wrong)
        assert expected in str(refused(classes))


def test_single_faults_are_counted_not_fatal(tmp_path: Path, encode: Encode) -> None:
    names = [f"{number:03d}.png" for number in range(200)]
    fill(tmp_path, encode(), *names)
    (tmp_path / "007.png").unlink()
    (tmp_path / "008.png").write_bytes(b"")
    rows = [{"file_name": name, "label": None if name == "009.png" else 1} for name in names]
    (tmp_path / "metadata.jsonl").write_text(lines(*rows))
    source = opened(tmp_path)
    reasons = {}
    for index in range(len(source)):
        try:
            source[index]
        except BadPicture as verdict:
            reasons[source.sample_id(index)] = verdict.reason
            with pytest.raises(BadPicture):
                source.size_of(index)
    assert reasons == {"007.png": pictures.MISSING, "008.png": pictures.EMPTY, "009.png": BAD_LABEL}


def test_fingerprint_follows_names_labels_and_captions(tmp_path: Path, encode: Encode) -> None:
    fill(tmp_path, encode(), "x/a.png", "y/b.png")
    seen = [opened(tmp_path).fingerprint]
    assert pickle.loads(pickle.dumps(opened(tmp_path))).fingerprint == seen[0]
    (tmp_path / "x" / "a.txt").write_text("caption")
    seen.append(opened(tmp_path).fingerprint)
    (tmp_path / "x").rename(tmp_path / "z")
    seen.append(opened(tmp_path).fingerprint)
    (tmp_path / "y" / "b.png").rename(tmp_path / "y" / "c.png")
    seen.append(opened(tmp_path).fingerprint)
    assert len(set(seen)) == 4


def test_no_folder_is_looked_through_twice(tmp_path: Path, encode: Encode, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, encode(), "x/a.png", "y/b.png")
    (tmp_path / "x" / "round").symlink_to(tmp_path, target_is_directory=True)
    listed = []
    original = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or original(path))
    assert len(opened(tmp_path)) == 2
    assert len(listed) == 4  # the folder, x, y, and the link once


UNUSABLE_LABELS = {
    "on some": (["label", 1], [], "labels on 1 of 2 ignored"),
    "negative": (["label", 0], ["label", -2], "labels on 1 of 2 ignored, -2 is none of the 1 classes"),
    "giant": (["label", 0], ["label", 10**9], "labels on 1 of 2 ignored, 1000000000 is none of the 1 classes"),
}


@pytest.mark.parametrize("name", UNUSABLE_LABELS)
def test_labels_that_cannot_be_used_are_ignored_and_said(name: str, tmp_path: Path, encode: Encode) -> None:
    first, second, said = UNUSABLE_LABELS[name]
    fill(tmp_path, encode(), "a.png", "b.png")
    rows = [
        {"file_name": file, "text": "caption"} | dict([given] if given else [])
        for file, given in (("a.png", first), ("b.png", second))
    ]
    (tmp_path / "metadata.jsonl").write_text(lines(*rows))
    source = opened(tmp_path)
    assert source.summary.sentence() == f"2 pictures, no classes, captions (metadata.jsonl; {said})"
    assert source.class_names == ()
    assert [(source[i].label, source[i].captions) for i in range(2)] == [(None, ("caption",))] * 2


def test_names_that_are_not_utf8_are_spelt_out_and_still_opened(tmp_path: Path, encode: Encode) -> None:
    for name in (b"caf\xe9/\xff.png", b"caf\xe8/b.png", b"plain/broken.png"):
        path = tmp_path / os.fsdecode(name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode())
    (tmp_path / os.fsdecode(b"caf\xe8/b.png")).write_bytes(b"")
    source = opened(tmp_path)
    ids = [source.sample_id(i) for i in range(len(source))]
    assert ids == ["caf\\udce8/b.png", "caf\\udce9/\\udcff.png", "plain/broken.png"]
    assert source.class_names == ("caf\\udce8", "caf\\udce9", "plain")
    assert (source[1].id, source[1].label) == (ids[1], 1)
    with pytest.raises(BadPicture) as verdict:
        source[0]
    seen = survey(source)
    for text in (json.dumps([seen.to_json(), ids], ensure_ascii=False), str(verdict.value), source.fingerprint):
        assert text.encode()


def test_an_error_about_a_folder_that_is_not_utf8_can_be_written(tmp_path: Path, encode: Encode) -> None:
    inner = tmp_path / os.fsdecode(b"caf\xe9")
    inner.mkdir()
    fill(inner, encode(), "a.png")
    fill(inner, b"", "metadata.csv", "metadata.jsonl")
    assert "caf\\udce9 contains both" in refused(tmp_path).problem.encode().decode()


def test_lone_surrogates_in_metadata_do_no_harm(tmp_path: Path, encode: Encode) -> None:
    fill(tmp_path, encode(), "a.png")
    (tmp_path / "metadata.jsonl").write_text(r'{"file_name": "a.png", "text": "caf\ud83d", "label": "\ud83d"}')
    source = opened(tmp_path)
    assert (source.captions(), source.class_names) == (["caf\\ud83d"], ("\\ud83d",))


@pytest.mark.parametrize(("on_disk", "in_metadata"), [("NFD", "NFC"), ("NFC", "NFD"), ("NFD", "NFD")])
def test_file_names_are_found_in_another_normal_form(on_disk: str, in_metadata: str, tmp_path: Path, encode: Encode) -> None:
    name = unicodedata.normalize(on_disk, "café.png")
    fill(tmp_path, encode(), name)
    (tmp_path / "metadata.jsonl").write_text(lines({"file_name": unicodedata.normalize(in_metadata, name), "text": "x"}))
    source = opened(tmp_path)
    assert (source[0].id, source[0].captions) == (name, ("x",))
    assert source.summary.layout == "metadata.jsonl"
