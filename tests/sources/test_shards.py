from __future__ import annotations

import gzip
import io
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from open_ldm.core.errors import ConfigError, DataError, OpenLdmError
from open_ldm.data import pictures
from open_ldm.data.holdout import Part
from open_ldm.data.sample import BadPicture
from open_ldm.sources import shard_index
from open_ldm.sources.labels import BAD_LABEL
from open_ldm.sources.shapes import ShapesConfig
from open_ldm.sources.shards import BAD_CAPTION, ShardsConfig, ShardsSource
from open_ldm.sources.shrunk import ShrunkConfig

Encode = Callable[..., bytes]
Tar = Callable[..., Path]


def opened(path: Path | str) -> ShardsSource:
    return ShardsConfig(path=str(path)).open()


@pytest.fixture(name="shards")
def two_shards(tmp_path: Path, tar: Tar, encode: Encode, image: Callable[..., object]) -> Path:
    folder = tmp_path / "shards"
    folder.mkdir()
    for number in range(2):
        members = {}
        for sample in range(3):
            members[f"{sample}.png"] = encode(image(20 + sample, 30, seed=3 * number + sample))
            members[f"{sample}.cls"] = b"%d\n" % (sample % 2)
            members[f"{sample}.txt"] = f"picture {number} {sample}\nanother caption".encode()
        tar(folder / f"train-{number}.tar", members)
    (folder / "classes.json").write_text('["cat", "dog"]')
    return folder


def test_random_access(shards: Path, image: Callable[..., object]) -> None:
    source = opened(shards)
    assert source.summary.sentence() == "6 pictures, 2 classes, captions (2 tar shards)"
    for index in (5, 0, 3, 3):
        sample = source[index]
        number, key = divmod(index, 3)
        assert sample.id == source.sample_id(index) == f"train-{number}/{key}"
        np.testing.assert_array_equal(sample.pixels, np.asarray(image(20 + key, 30, seed=index)))
        assert sample.label == source.label_of(index) == key % 2
        assert sample.captions == (f"picture {number} {key}", "another caption")
        assert source.size_of(index) == (20 + key, 30)
    assert source.class_names == ("cat", "dog")
    assert len(source.captions()) == 12


def test_pattern_and_single_file(shards: Path) -> None:
    assert len(opened(shards / "train-*.tar")) == 6
    assert opened(shards / "train-1.tar").summary.sentence() == "3 pictures, 2 classes, captions (1 tar shard)"


def test_json_members(tmp_path: Path, tar: Tar, encode: Encode) -> None:
    def row(**content: object) -> bytes:
        return json.dumps(content).encode()

    members = {
        "deep/a.b.png": encode(),
        "deep/a.b.json": row(text=["one", "two"], label="dog", original_width=320, original_height=240),
        "b.webp": encode(None, "WEBP"),
        "b.json": row(label="cat"),
        "c.jpeg": encode(None, "JPEG"),
        "c.json": row(text="not this", label="dog"),
        "c.txt": b"this",
        "orphan.txt": b"no picture",
        "._b.webp": b"x",
        "read.me": b"y",
    }
    source = opened(tar(tmp_path / "x.tar", members))
    words = "1 tar shard; 1 key without a picture ignored; 1 other member ignored: .me 1"
    assert source.summary.sentence() == f"3 pictures, 2 classes, 2 captions ({words})"
    assert source[0].captions == ("one", "two")
    assert source.size_of(0) == (240, 320)
    assert [source[i].label for i in range(3)] == [1, 0, 1]
    assert [source[i].captions for i in range(3)] == [("one", "two"), (), ("this",)]
    assert source.sample_id(0) == "x/deep/a.b"


def test_a_pickled_or_forked_source_reads_on(shards: Path) -> None:
    source = opened(shards)
    first = source[0]
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy[0].pixels, first.pixels)
    assert copy.fingerprint == source.fingerprint
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(source[0].pixels, first.pixels) and len(source[4].captions) == 2 else 1)
    assert os.waitpid(child, 0)[1] == 0
    np.testing.assert_array_equal(source[0].pixels, first.pixels)


def test_few_files_are_open_at_once(tmp_path: Path, tar: Tar, encode: Encode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("open_ldm.sources.open_files._FEWEST_OPEN", 2)
    for number in range(5):
        tar(tmp_path / f"{number}.tar", {"a.png": encode()})
    source = opened(tmp_path)
    for streams, most in ((0, 2), (2, 4), (0, 2)):
        source.expect_streams(streams)
        assert [source[index].pixels.shape for index in range(5)] == [(24, 32, 3)] * 5
        assert len(source._storage.open_files) == most  # two for each stream, else few


def test_index_is_cached_and_the_cache_is_never_trusted_blindly(
    shards: Path, tar: Tar, encode: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []
    original = shard_index._read_headers
    monkeypatch.setattr(shard_index, "_read_headers", lambda *given: reads.append(given[0]) or original(*given))
    fingerprint = opened(shards).fingerprint
    assert len(reads) == 2
    assert opened(shards).fingerprint == fingerprint
    assert len(reads) == 2

    caches = sorted((Path(os.environ["XDG_CACHE_HOME"]) / "open-ldm" / "shards").iterdir())
    assert len(caches) == 2
    whole = json.loads(caches[0].read_text())
    outside = {**whole, "rows": [[*row[:2], 10**9, *row[3:]] for row in whole["rows"]]}
    wrong_types = {**whole, "rows": [[row[0], "1", *row[2:]] for row in whole["rows"]]}
    short_rows = {**whole, "rows": [[1]]}
    moved = {**whole, "rows": [[row[0], row[1] + 1, *row[2:]] for row in whole["rows"]]}
    for damaged in ("", "{", "[]", "null", "[" * 100_000, *map(json.dumps, (outside, wrong_types, short_rows, moved, {}))):
        reads.clear()
        caches[0].write_text(damaged)
        assert opened(shards).fingerprint == fingerprint
        assert len(reads) == 1
    reads.clear()
    caches[0].write_bytes(b"\xff\xfe")
    assert opened(shards).fingerprint == fingerprint

    reads.clear()
    tar(shards / "train-0.tar", {"0.png": encode(), "0.cls": b"0", "0.txt": b"new"})
    assert len(opened(shards)) == 4
    assert reads == [shards / "train-0.tar"]


def test_unwritable_cache_does_no_harm(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(opened(shards)) == 6


def refused(path: Path | str) -> OpenLdmError:
    with pytest.raises(OpenLdmError) as error:
        opened(path)
    assert "\n" not in str(error.value)
    return error.value


def test_wrong_paths(tmp_path: Path) -> None:
    missing = refused(tmp_path / "absent-*.tar")
    assert isinstance(missing, ConfigError)
    assert "matches no file" in str(missing)
    empty = refused(tmp_path)
    assert isinstance(empty, DataError)
    assert "contains no .tar files" in str(empty)


def broken_shards(whole: bytes) -> dict[str, bytes]:
    """Ways in which a shard of three pictures with captions arrives broken."""
    second_header = whole.index(b"1.png")
    return {
        "empty": b"",
        "text": b"this is no tar file, but it is longer than a header " * 40,
        "compressed": gzip.compress(whole),
        "cut inside the first header": whole[:300],
        "cut inside a picture": whole[: second_header + 600],
        "cut inside a later header": whole[: second_header + 300],
        "cut between two members": whole[:second_header],
        "without the end mark": whole.rstrip(b"\0").ljust(-(-len(whole.rstrip(b"\0")) // 512) * 512, b"\0"),
        "damaged header": whole[:second_header] + b"\xff" * 40 + whole[second_header + 40 :],
        "first header damaged": b"\xff" * 200 + whole[200:],
        "half overwritten": whole[: len(whole) // 2 // 512 * 512] + b"\xa5" * (len(whole) // 2),
    }


def test_broken_shards_are_one_line_naming_the_shard(shards: Path) -> None:
    path = shards / "train-1.tar"
    whole = path.read_bytes()
    for name, content in broken_shards(whole).items():
        path.write_bytes(content)
        error = refused(shards)
        assert isinstance(error, DataError), name
        assert str(path) in str(error), name
    path.write_bytes(whole)
    assert len(opened(shards)) == 6


def test_ambiguous_and_empty_shards(tmp_path: Path, tar: Tar, encode: Encode) -> None:
    two_pictures = tar(tmp_path / "a.tar", {"0.png": encode(), "0.jpg": encode(None, "JPEG")})
    assert "two pictures for key 0" in str(refused(two_pictures))
    two_captions = tar(tmp_path / "b.tar", [("0.png", encode()), ("0.txt", b"x"), ("0.txt", b"y")])
    assert "two .txt members for key 0" in str(refused(two_captions))
    assert "contains no pictures" in str(refused(tar(tmp_path / "c.tar", {"0.txt": b"x"})))
    unlabelled = opened(tar(tmp_path / "d.tar", {"0.png": encode(), "0.cls": b"1", "1.png": encode()}))
    assert unlabelled.summary.sentence() == "2 pictures, no classes, no captions (1 tar shard; labels on 1 of 2 ignored)"
    assert [unlabelled[index].label for index in range(2)] == [None, None]
    mixed = tar(tmp_path / "e.tar", {"0.png": encode(), "0.cls": b"1", "1.png": encode(), "1.json": b'{"label": "x"}'})
    assert "mixes labels" in str(refused(mixed))


def test_single_faults_are_counted_not_fatal(tmp_path: Path, tar: Tar, encode: Encode) -> None:
    members: dict[str, bytes] = {}
    for number in range(400):
        members |= {f"{number}.png": encode(), f"{number}.cls": b"1", f"{number}.txt": b"caption"}
    members |= {
        "3.cls": b"one",
        "4.json": b"{",
        "5.txt": b"\xff\xff",
        "6.png": members["6.png"][:60],
        "7.json": b"[1]",
        "9.json": b'{"text": "one", "text": "another"}',
    }
    del members["8.cls"]
    source = opened(tar(tmp_path / "x.tar", members))
    reasons = {}
    for index in range(20):
        try:
            source[index]
        except BadPicture as verdict:
            reasons[index] = verdict.reason
    assert reasons == {
        3: "unreadable .cls",
        4: "unreadable .json",
        5: BAD_CAPTION,
        6: pictures.DAMAGED,
        7: "unreadable .json",
        9: "unreadable .json",
        8: BAD_LABEL,
    }
    assert len(source.captions()) == 399


def test_a_shard_that_shrinks_after_indexing_gives_bad_samples(shards: Path) -> None:
    source = opened(shards)
    with (shards / "train-0.tar").open("r+b") as file:
        file.truncate(600)
    with pytest.raises(BadPicture, match="became shorter") as verdict:
        source[0]
    assert verdict.value.reason == pictures.CANNOT_READ
    with pytest.raises(BadPicture):
        source.size_of(2)
    assert source[3].pixels.shape == (20, 30, 3)


def test_names_that_are_not_utf8_are_spelt_out(tmp_path: Path, tar: Tar, encode: Encode) -> None:
    shard = tmp_path / os.fsdecode(b"caf\xe9.tar")
    tar(shard, {os.fsdecode(b"\xff.png"): encode(), os.fsdecode(b"\xff.cls"): b"0"})
    source = opened(tmp_path)
    assert (source.sample_id(0), source[0].label) == ("caf\\udce9/\\udcff", 0)
    assert source.fingerprint == opened(tmp_path).fingerprint
    key = os.fsdecode(b"\xff")
    tar(shard, {f"{key}.png": encode(), f"{key}.jpg": encode(None, "JPEG")})
    assert "two pictures for key \\udcff" in refused(tmp_path).problem.encode().decode()


def test_captions_are_read_from_the_shards_once(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = opened(shards)
    before = len(pickle.dumps(source))
    first = source.captions()
    assert len(pickle.dumps(source)) == before
    reads: list[int] = []
    monkeypatch.setattr(source, "_read", lambda index, *_: reads.append(index))
    again = source.captions()
    again.clear()
    assert source.captions() == first
    assert reads == []


def test_a_size_takes_the_head_of_a_file_and_more_only_where_that_is_not_enough(tmp_path: Path, tar: Tar) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (150, 200, 3), dtype=np.uint8))
    members = {}
    for name, options in {"0": {}, "1": {"comment": b"x" * 40_000}}.items():
        stream = io.BytesIO()
        noise.save(stream, "JPEG", quality=95, **options)
        members[f"{name}.jpg"] = stream.getvalue()
    assert min(map(len, members.values())) > 32_768
    source = opened(tar(tmp_path / "a.tar", members))
    read: list[int] = []
    real = source._read
    source._read = lambda index, offset, size: (read.append(size), real(index, offset, size))[1]  # type: ignore[method-assign]
    assert source.size_of(0) == (150, 200) and read == [32_768]
    assert source.size_of(1) == (150, 200) and read[1:] == [32_768, len(members["1.jpg"])]


def test_sizes_of_shards_and_of_their_parts(shards: Path) -> None:
    source = opened(shards)
    assert source.shard_sizes.tolist() == [3, 3]
    sizes = Part(source, [1, 2, 5], "train", "").shard_sizes
    assert sizes is not None and sizes.tolist() == [2, 1]
    assert Part(ShapesConfig(length=4).open(), [1], "train", "").shard_sizes is None
    shrunk = ShrunkConfig.model_validate(
        {"kind": "shrunk", "of": {"kind": "shards", "path": str(shards)}, "short_side_px": [8, 9]}
    )
    assert shrunk.open().shard_sizes.tolist() == [3, 3]
