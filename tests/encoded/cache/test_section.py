"""What stays on the disk when writing is cut off, and how processes share the work."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from open_ldm.core.errors import DataError, DiskError, StoppedError
from open_ldm.core.tasks import Task
from open_ldm.data.sample import BadSample
from open_ldm.encoded.cache import mapped
from open_ldm.encoded.cache.build import Work, fill, in_turn
from open_ldm.encoded.cache.config import CacheConfig
from open_ldm.encoded.cache.mapped import MappedSection
from open_ldm.encoded.cache.section import Section, SectionPlan, ShardContent
from tests.encoded.cache.small_data import content
from tests.processes import PATIENCE_SECONDS
from tests.started import Started

PLAN = SectionPlan("numbers", {"rule": "squares", "sizes": [1, 2]}, rows=10)
BAD = BadSample("x", "not a picture", "why")


def section(root: Path, rows_per_shard: int = 3) -> Section:
    return Section(root, PLAN, lambda: rows_per_shard)


def made(rows: range) -> ShardContent:
    return ShardContent({"squares": torch.tensor([row * row for row in rows]), "odd": torch.ones(len(rows), 2)}, [BAD])


def make(one: Section, stop_after: int = 99) -> Work:
    """Fill a section; `stop_after` shards a signal comes."""

    def shards(claimed: Iterator[int]) -> Iterator[tuple[int, ShardContent]]:
        for count, shard in enumerate(claimed):
            if count == stop_after:
                raise StoppedError("stopped")
            yield shard, made(one.rows_of(shard))

    work = Work()
    fill(one, shards, work)
    return work


def squares(one: Section) -> list[int]:
    mapped = MappedSection(one)
    return [int(arrays["squares"][at]) for arrays, at in map(mapped.at, range(10))]


def test_all_rows_are_there_and_read_back(tmp_path: Path) -> None:
    one = section(tmp_path)
    assert (one.shards, one.missing()) == (4, [0, 1, 2, 3])
    work = make(one)
    assert one.missing() == [] and work.shards_written == 4
    assert squares(one) == [row * row for row in range(10)]
    assert MappedSection(one).bad == (BAD,) * 4
    assert make(one).shards_written == 0


def test_what_was_done_before_a_stop_is_kept_and_the_bytes_are_the_same(tmp_path: Path) -> None:
    make(section(tmp_path / "whole"))
    broken = section(tmp_path / "broken")
    with pytest.raises(StoppedError):
        make(broken, stop_after=2)
    broken.close()
    with pytest.raises(DataError, match="is not finished; fix: run ldm encode"):
        MappedSection(broken)
    again = section(tmp_path / "broken")
    assert len(again.missing()) <= 3
    make(again)
    assert content(tmp_path / "broken") == content(tmp_path / "whole")


@pytest.mark.parametrize("leftover", ["temporary", "no record", "half a record", "cut shard", "no index"])
def test_whatever_a_kill_leaves_behind_ends_in_the_same_bytes(leftover: str, tmp_path: Path) -> None:
    make(section(tmp_path / "whole"))
    broken = section(tmp_path / "broken")
    make(broken)
    broken.close()
    file, record, index = broken.file(1), broken.path / "00001.json", broken.path / "index.json"
    if leftover != "no index":
        index.unlink()
    match leftover:
        case "temporary":
            record.unlink()
            file.rename(broken.path / ".00001.safetensors.ab12")
            (broken.path / ".00001.json.cd34").write_text("{")
        case "no record":
            record.unlink()
        case "half a record":
            record.write_text(record.read_text()[:20])
        case "cut shard":
            file.write_bytes(file.read_bytes()[:-5])
        case _:
            index.unlink()
    again = section(tmp_path / "broken")
    assert again.missing() == ([] if leftover == "no index" else [1])
    make(again) if again.missing() else again.finish()
    assert content(tmp_path / "broken") == content(tmp_path / "whole")


def test_a_damaged_shard_is_found_by_its_hash_and_made_again(tmp_path: Path) -> None:
    one = section(tmp_path)
    make(one)
    before = content(tmp_path)
    file = one.file(2)
    flipped = bytearray(file.read_bytes())
    flipped[-1] ^= 1
    file.write_bytes(flipped)
    one.file(3).unlink()
    assert one.missing() == [3]  # the length alone does not tell of the other
    found = list(one.damaged())
    assert [shard for shard, _ in found] == [2, 3]
    assert "00002.safetensors is damaged: its SHA-256" in found[0][1] and "00003.safetensors is missing" in found[1][1]
    for shard, _ in found:
        one.discard(shard)
    assert one.missing() == [2, 3]
    assert make(one).shards_written == 2
    assert content(tmp_path) == before
    assert not list(one.damaged())


def test_the_layout_stays_that_of_the_first(tmp_path: Path) -> None:
    make(section(tmp_path))
    assert section(tmp_path, rows_per_shard=5).rows_per_shard == 3
    layout = section(tmp_path).path / "section.json"
    layout.write_text(json.dumps({**json.loads(layout.read_text()), "key": "other"}))
    with pytest.raises(DataError, match=r"section.json is damaged; fix: remove the folder"):
        section(tmp_path)


def test_another_plan_lies_in_another_folder(tmp_path: Path) -> None:
    other = SectionPlan("numbers", {**PLAN.made_from, "rule": "cubes"}, rows=10)
    assert other.folder != PLAN.folder
    assert SectionPlan("numbers", {"sizes": (1, 2), "rule": "squares"}, rows=10).folder == PLAN.folder
    assert SectionPlan("numbers", PLAN.made_from, rows=11).folder != PLAN.folder


_CLAIMER = """
import sys, time
from pathlib import Path
from open_ldm.encoded.cache.section import Section
from tests.encoded.cache.test_section import PLAN
section = Section(Path(sys.argv[1]), PLAN, lambda: 3)
claimed = section.claimed([1, 2])
print(next(claimed), flush=True)
time.sleep(60)
"""


def claimer(folder: Path) -> Started:
    """A process that has claimed shard 1 of the section in `folder`."""
    program = folder.with_suffix(".py")
    program.write_text(_CLAIMER)
    process = Started(str(program), [str(folder)])
    until = time.monotonic() + PATIENCE_SECONDS
    while process.said().strip() != "1":
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    return process


def test_a_claim_keeps_others_off_and_dies_with_its_process(tmp_path: Path) -> None:
    one = section(tmp_path)
    process = claimer(tmp_path)
    assert list(one.claimed([0, 1, 2])) == [0, 2]
    with pytest.raises(DataError, match="another process is writing"):
        one.discard(1)
    process.kill()
    process.wait()
    assert list(one.claimed([1])) == [1]


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="cannot write"):
        section(tmp_path / "file")


def test_a_finished_section_is_finished_again_without_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = section(tmp_path)
    make(one)
    one.close()
    monkeypatch.setattr("open_ldm.encoded.cache.section.open_handle", lambda *given: pytest.fail("it was opened for writing"))
    assert section(tmp_path).finish() == one.index()


def test_an_error_of_the_writer_arrives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = section(tmp_path)

    def refuse(path: Path, content: bytes) -> None:
        raise DiskError(f"cannot write {path}")

    monkeypatch.setattr("open_ldm.encoded.cache.section.write_bytes", refuse)
    with pytest.raises(DiskError):
        make(one)


_WRITER = """
import os, sys, time
from pathlib import Path
from open_ldm.core import files
really = os.fsync
def waiting(handle):
    print("writing", flush=True)
    time.sleep(60)
os.fsync = waiting
files.write_json(Path(sys.argv[1]), {})
"""


def test_leftovers_of_killed_writers_go_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    make(section(tmp_path / "whole"))
    broken = section(tmp_path / "broken")
    make(broken)
    broken.close()
    process = subprocess.Popen([sys.executable, "-c", _WRITER, str(broken.path / "index.json")], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"writing\n"
    (leftover,) = broken.path.glob(".index.json.*")
    section(tmp_path / "broken").close()
    assert leftover.exists()
    process.kill()
    process.wait()
    section(tmp_path / "broken").close()
    assert content(tmp_path / "broken") == content(tmp_path / "whole")


def test_who_waits_for_others_starts_nothing(tmp_path: Path) -> None:
    """Each look starts reading processes only with a shard in hand."""
    one = section(tmp_path)
    other = claimer(tmp_path)
    started: list[list[int]] = []

    def shards(claimed: Iterator[int]) -> Iterator[tuple[int, ShardContent]]:
        started.append([])
        for shard in claimed:
            started[-1].append(shard)
            yield shard, made(one.rows_of(shard))

    looks: list[int] = []

    def look() -> bool:
        looks.append(1)
        if len(looks) == 4:
            other.kill()
            other.wait()
        return False

    fill(one, shards, Work(stop_requested=look))
    assert started == [[0, 2, 3], [1]] and len(looks) >= 4


def test_a_task_begins_with_its_share_and_ends_with_that_of_others(tmp_path: Path) -> None:
    assert in_turn([0, 2, 3, 4, 7, 9], None, 10) == [0, 2, 3, 4, 7, 9]
    shares = [in_turn([0, 2, 3, 4, 7, 9], Task(number, 3), 10) for number in (1, 2, 3)]
    assert shares == [[0, 2, 9, 7, 4, 3], [3, 4, 9, 7, 2, 0], [7, 9, 4, 3, 2, 0]]
    one, order = section(tmp_path, rows_per_shard=1), []

    def shards(claimed: Iterator[int]) -> Iterator[tuple[int, ShardContent]]:
        for shard in claimed:
            order.append(shard)
            yield shard, made(one.rows_of(shard))

    fill(one, shards, Work(task=Task(2, 2)))
    assert order == [5, 6, 7, 8, 9, 4, 3, 2, 1, 0] and squares(one) == [row * row for row in range(10)]


def test_only_the_files_used_last_stay_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("open_ldm.encoded.cache.mapped._MOST_MAPPED", 2)
    one = section(tmp_path, rows_per_shard=1)
    make(one)
    opened: list[int] = []
    read = mapped._tensors
    monkeypatch.setattr(mapped, "_tensors", lambda of, shard, record: opened.append(shard) or read(of, shard, record))
    found = MappedSection(one)
    for row in (1, 2, 1, 3, 1, 2):
        assert found.at(row)[0]["squares"].tolist() == [row * row]
    assert opened == [0, 1, 2, 3, 2]


def test_files_of_large_sections_are_larger(tmp_path: Path) -> None:
    config = CacheConfig(path=tmp_path)
    assert [config.shard_bytes(pictures) for pictures in (1_000_000, 1_000_001)] == [16_000_000, 1_000_000_000]
    assert CacheConfig(path=tmp_path, shard_mb=0.5).shard_bytes(10**9) == 500_000
