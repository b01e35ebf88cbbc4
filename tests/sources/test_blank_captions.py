"""Captions of shards that hold nothing but blanks are none: in every count, with a table or without, and in no hash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from open_ldm.commands.data_index import index_data
from open_ldm.commands.guess import guess
from open_ldm.sources import shard_sidecar
from open_ldm.sources.mapped_samples import MappedSamples
from open_ldm.sources.shards import ShardsConfig
from open_ldm.text.survey import survey_captions
from open_ldm.text.words import Vocabulary, WordsEncoder

PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c"
    "49444154789c63f8ffff3f0005fe02fe0def46b80000000049454e44ae426082"
)
BLANK = {
    "empty text in .json": (".json", b'{"text": ""}'),
    "blanks in .json": (".json", b'{"text": " \\n"}'),
    "an empty list": (".json", b'{"text": []}'),
    "a list of blanks": (".json", b'{"text": ["", " "]}'),
    "NaN": (".json", b'{"text": NaN}'),
    "an empty file": (".txt", b""),
    "a file of blanks": (".txt", b" \n\t\n"),
    "a byte-order mark": (".caption", b"\xef\xbb\xbf"),
    "blanks in UTF-16": (".txt", " \n".encode("utf-16")),
}
HASHES = (
    "93d05d035570ad306f9d18629e1d067e",
    "c67f1fb678868db43153745757f49a0d",
    "9b0e12cfbe11bc33993c516753619e24",
    "ad0c5686588e99ec97bc521d0a6614ce",
)
"""Of a set of `written`, as they were when blanks counted as captions: caches and begun runs are of the same data as before."""


def written(folder: Path, tar: Callable[..., Path], ending: str, blank: bytes) -> Path:
    """Write a shard of four pictures, of which one has a caption."""
    folder.mkdir(exist_ok=True)
    members = {f"{key}{suffix}": content for key in "abc" for suffix, content in ((".png", PICTURE), (ending, blank))}
    said = {".json": b'{"text": "a boat"}'}.get(ending, b"a boat")
    tar(folder / "x.tar", {**members, "d.png": PICTURE, f"d{ending}": said})
    return folder


def counted(path: Path) -> tuple[int, list[bool]]:
    source = ShardsConfig(path=str(path)).open()
    return source.summary.captioned, [bool(source.captions_of(index)) for index in range(len(source))]


@pytest.mark.parametrize("kind", BLANK)
def test_blanks_are_no_captions(kind: str, tmp_path: Path, tar: Callable[..., Path]) -> None:
    folder = written(tmp_path / "shards", tar, *BLANK[kind])
    assert counted(folder) == (1, [False, False, False, True])
    assert counted(folder) == (1, [False, False, False, True])  # from the index in the user's cache
    assert index_data(ShardsConfig(path=str(folder)), silent=True).table is not None
    assert isinstance(ShardsConfig(path=str(folder)).open()._samples, MappedSamples)
    assert counted(folder) == (1, [False, False, False, True])


def test_captions_that_cannot_be_read_are_not_taken_for_missing_ones(tmp_path: Path, tar: Callable[..., Path]) -> None:
    for ending, content in ((".txt", b"caf\xe9"), (".json", b'{"text": 5}'), (".json", b'{"text": [null]}')):
        assert counted(written(tmp_path / "shards", tar, ending, content))[0] == 4


def test_a_guess_and_a_survey_of_blank_captions(tmp_path: Path, tar: Callable[..., Path]) -> None:
    folder = written(tmp_path / "shards", tar, ".json", b'{"text": ""}')
    assert "conditioning.semantic={kind: none}" in guess(str(folder)).overrides
    source = ShardsConfig(path=str(folder)).open()
    found = survey_captions(WordsEncoder(Vocabulary(["boat"]), 4), source)
    assert found is not None and found.problems() == ["3 of 4 pictures have no caption; they train as if it were dropped"]


@pytest.mark.parametrize("with_table", [False, True])
def test_no_hash_depends_on_what_counts_as_a_caption(with_table: bool, tmp_path: Path, tar: Callable[..., Path]) -> None:
    folder = written(tmp_path / "shards", tar, ".json", b'{"text": " "}')
    if with_table:
        index_data(ShardsConfig(path=str(folder)), silent=True)
    source = ShardsConfig(path=str(folder)).open()
    assert (source.fingerprint, *asdict(source.hashes).values()) == HASHES


@pytest.mark.parametrize("kind", BLANK)
def test_an_index_from_before_still_opens_and_its_next_table_counts_rightly(
    kind: str, tmp_path: Path, tar: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, config = written(tmp_path / "shards", tar, *BLANK[kind]), ShardsConfig(path=str(tmp_path / "shards"))
    with monkeypatch.context() as before:
        before.delitem(shard_sidecar.NUMBERS, "captioned", raising=False)
        index_data(config, silent=True)
    assert "captioned" not in shard_sidecar.read_sidecar(folder / "x.tar", config.rules)
    source = config.open()
    assert isinstance(source._samples, MappedSamples)
    assert [source.captions_of(index) for index in range(4)] == [(), (), (), ("a boat",)]
    assert index_data(config, silent=True).written == 0
    assert counted(folder)[0] == 1
