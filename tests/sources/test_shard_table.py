"""Shards with a table are the same data set as without one, in every word, number and hash; what does not fit is refused."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from open_ldm.cli.main import main
from open_ldm.commands.data_index import index_data, source_of
from open_ldm.core.errors import ConfigError, DataError
from open_ldm.core.tasks import Task
from open_ldm.data.content import content_hash
from open_ldm.data.holdout import HoldoutConfig, Part, divide, select_part
from open_ldm.data.sample import BadPicture
from open_ldm.sources import shard_index
from open_ldm.sources.mapped_samples import MappedSamples
from open_ldm.sources.shard_index import index_shard
from open_ldm.sources.shard_sidecar import sidecar_of, write_sidecar
from open_ldm.sources.shard_table import table_of
from open_ldm.sources.shards import ShardsConfig, ShardsSource
from open_ldm.sources.sidecar import Stamp

Encode = Callable[..., bytes]
COUNT = 20


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards with labels, captions, .json, names that are no UTF-8, a bad .json and a missing class; one is empty."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("made")
    stream = io.BytesIO()
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(stream, "PNG")
    for number in range(3):
        members: dict[bytes, bytes] = {}
        for key in range(0 if number == 1 else COUNT):
            name = f"in{number}/k{key}".encode() if key else b"caf\xe9"
            members[name + b".png"] = stream.getvalue() + bytes([number, key])
            members[name + b".cls"] = b"%d" % (key % 3)
            members[name + b".json"] = (
                b"{" if (number, key) == (2, 5) else json.dumps({"depth": key, "text": f"j{key}"}).encode()
            )
            if key % 2:
                members[name + b".txt"] = f"caption {key}\nother".encode()
        members[b"alone.txt"] = b"no picture"
        with tarfile.open(folder / f"a-{number}.tar", "w", format=tarfile.GNU_FORMAT) as archive:
            for name, content in members.items():
                info = tarfile.TarInfo(name.decode("utf-8", "surrogateescape"))
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    (folder / "classes.json").write_text('["x", "y", "z", "unseen"]')
    return folder


@pytest.fixture(name="shards")
def own_copy(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "shards"))


def opened(path: Path) -> ShardsSource:
    return ShardsConfig(path=str(path)).open()


def indexed(path: Path) -> ShardsSource:
    assert index_data(ShardsConfig(path=str(path)), silent=True).table is not None
    source = opened(path)
    assert isinstance(source._samples, MappedSamples)
    return source


def test_a_table_changes_nothing_of_the_data(shards: Path) -> None:
    listed, mapped = opened(shards), indexed(shards)
    assert mapped.summary == listed.summary and mapped.class_names == listed.class_names
    assert (mapped.fingerprint, mapped.hashes) == (listed.fingerprint, listed.hashes)
    mapped._known = ()  # what the table has not stored is computed
    assert (mapped.fingerprint, mapped.hashes) == (listed.fingerprint, listed.hashes)
    assert mapped.shard_sizes.tolist() == listed.shard_sizes.tolist() == [COUNT, 0, COUNT]
    assert mapped.captions() == listed.captions()
    assert mapped.columns["depth"].hash == listed.columns["depth"].hash
    copied = pickle.loads(pickle.dumps(mapped))
    for index in range(len(listed)):
        assert mapped.sample_id(index) == listed.sample_id(index)
        assert mapped.label_of(index) == listed.label_of(index)
        try:
            sample = listed[index]
        except BadPicture as verdict:
            with pytest.raises(BadPicture, match=str(verdict)):
                mapped[index]
            continue
        for other in (mapped[index], copied[index]):
            assert other.captions == sample.captions and np.array_equal(other.pixels, sample.pixels)
        assert mapped.size_of(index) == listed.size_of(index)


def test_hold_outs_and_digests_are_read_from_the_sidecars(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed, holdout = opened(shards), HoldoutConfig(share=0.3)
    wanted, hashed = divide(listed, holdout)[0], content_hash(listed)
    of_a_part = content_hash(select_part(listed, holdout, "train"))
    mapped = indexed(shards)
    monkeypatch.setattr(HoldoutConfig, "holds_out", lambda *given: pytest.fail("ids were hashed"))
    monkeypatch.setattr(ShardsSource, "digests", lambda *given: pytest.fail("pictures were read"))
    assert divide(mapped, holdout)[0].tolist() == wanted.tolist()
    assert content_hash(mapped) == hashed
    part = select_part(mapped, holdout, "train")
    assert content_hash(part) == of_a_part and part.hashes == select_part(mapped, holdout, "train").hashes


def test_starting_reads_the_table_alone(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    indexed(shards)
    # Of a few pictures the header is looked at, whether it is OME-TIFF.
    monkeypatch.setattr("open_ldm.sources.shards.with_ome", lambda columns, length, ome_at: columns)
    with monkeypatch.context() as patched:
        patched.setattr(MappedSamples, "faults", lambda *given: pytest.fail("all sidecars were read"))
        opened(shards).digests([1, COUNT + 1], lambda done: None)
    monkeypatch.setattr("open_ldm.sources.mapped_samples.read_sidecar", lambda *given: pytest.fail("a sidecar was read"))
    source = opened(shards)
    assert (len(source), source.summary.captioned, bool(source.fingerprint)) == (2 * COUNT, 2 * COUNT, True)


def test_tasks_share_the_shards_and_old_indexes_are_taken_over(
    shards: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened(shards)  # leaves an index of each shard in the user's cache
    monkeypatch.setattr(shard_index, "_read_headers", lambda *given: pytest.fail("headers were read again"))
    first = index_data(ShardsConfig(path=str(shards)), Task(1, 2), silent=True)
    assert (first.table, first.written, first.missing) == (None, 2, 1)
    with pytest.raises(SystemExit) as ended:
        main(["data", "index", str(shards), "--task", "2/2", "--json"])
    assert ended.value.code == 0
    said = json.loads(capsys.readouterr().out)
    assert said["written"] == 1 and said["table"] == str(table_of(sorted(shards.glob("*.tar")), ShardsConfig(path="x").rules))
    assert index_data(ShardsConfig(path=str(shards)), silent=True).written == 0


def test_a_changed_shard_is_refused_and_then_indexed_again(shards: Path) -> None:
    source = indexed(shards)
    shard = shards / "a-2.tar"
    status = shard.stat()
    os.utime(shard, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    with pytest.raises(DataError, match="changed since it was indexed"):
        opened(shards)
    assert source.stored_digests(np.arange(COUNT, 2 * COUNT)) is None
    assert index_data(ShardsConfig(path=str(shards)), silent=True).written == 1
    assert opened(shards)[COUNT].pixels.shape == (8, 8, 3)


def test_a_shard_that_changes_before_its_sidecar_is_written_is_refused(shards: Path) -> None:
    shard = shards / "a-0.tar"
    before, rules = Stamp.of(shard.stat()), ShardsConfig(path=str(shards)).rules
    index = index_shard(shard, rules, remember=False)
    shard.write_bytes(shard.read_bytes() + bytes(512))
    with pytest.raises(DataError, match="changed while it was indexed"):
        write_sidecar(shard, index, rules, before, digests=False)


def test_damage_in_a_sidecar_or_the_table_is_named(shards: Path) -> None:
    indexed(shards)
    sidecar = sidecar_of(shards / "a-0.tar")
    content = sidecar.read_bytes()
    at = content.index(b"caption 1")
    sidecar.write_bytes(content[:at] + b"C" + content[at + 1 :])
    source = opened(shards)
    assert source.sample_id(1) == "a-0/in0/k1"
    with pytest.raises(DataError, match=r"a-0\.index\.safetensors is damaged \(column text\)"):
        source.captions_of(1)
    table = next(shards.glob("shards-*"))
    table.write_bytes(table.read_bytes()[:-1] + b"\xff")
    with pytest.raises(DataError, match=r"\.index\.safetensors is damaged \(its hash of itself"):
        opened(shards)
    table.unlink()
    assert not isinstance(opened(shards)._samples, MappedSamples)


def test_two_ways_of_reading_a_folder_keep_their_sidecars(shards: Path) -> None:
    usual, other = ShardsConfig(path=str(shards)), ShardsConfig(path=str(shards), columns={"text": "depth"})
    assert index_data(usual, silent=True).written == index_data(other, silent=True).written == 3
    assert index_data(usual, silent=True).written == index_data(other, silent=True).written == 0
    assert isinstance(usual.open()._samples, MappedSamples) and isinstance(other.open()._samples, MappedSamples)
    for number in range(3):  # as they were written before the rules stood in the name
        sidecar_of(shards / f"a-{number}.tar", other.rules).replace(sidecar_of(shards / f"a-{number}.tar"))
    assert index_data(other, silent=True).written == 0
    assert isinstance(other.open()._samples, MappedSamples)


def test_other_rules_and_other_shards_have_other_tables(shards: Path) -> None:
    indexed(shards)
    assert not isinstance(opened(shards / "a-0.tar")._samples, MappedSamples)
    assert not isinstance(ShardsConfig(path=str(shards), columns={"text": "depth"}).open()._samples, MappedSamples)
    with pytest.raises(ConfigError, match="reads shapes"):
        source_of("demo", [])
    assert source_of(str(shards), ["picture=photo.png"]).picture == "photo.png"


def test_parts_of_a_part_of_shards(shards: Path) -> None:
    part = Part(indexed(shards), [0, 3, COUNT + 2], "some", "some")
    assert [part.sample_id(index) for index in range(3)] == ["a-0/caf\\udce9", "a-0/in0/k3", "a-2/in2/k2"]
