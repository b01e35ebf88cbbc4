from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from open_ldm.core.errors import ConfigError, DiskError, DiskFullError
from open_ldm.core.new_folder import new_folder, require_new

posix = pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")


def names(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*"))


def test_it_is_there_with_its_whole_content_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    with new_folder(out) as folder:
        (folder / "part").mkdir()
        (folder / "part" / "text.md").write_text("one")
        assert not out.exists() and folder.parent == out.parent
    assert names(tmp_path) == ["a", "a/b", "a/b/part", "a/b/part/text.md"]
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "c") as folder:
        (folder / "text.md").write_text("half")
        raise KeyboardInterrupt
    assert names(tmp_path) == ["a", "a/b", "a/b/part", "a/b/part/text.md"]


def test_a_place_in_use_is_refused_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used, file, link = tmp_path / "used", tmp_path / "file", tmp_path / "link"
    used.mkdir()
    for place in (used / "mine", file):
        place.write_text("mine")
    link.symlink_to(tmp_path / "nowhere")
    for place, said in ((used, "is not empty"), (file, "is no folder"), (link, "is no folder")):
        with pytest.raises(ConfigError, match=f"{place.name} exists already and {said}; needed: .* fix: choose another --out"):
            require_new(place)
        with pytest.raises(ConfigError, match="exists already"), new_folder(place):
            pytest.fail("begun")
    assert (used / "mine").read_text() == file.read_text() == "mine"
    empty = tmp_path / "empty"
    empty.mkdir()
    with new_folder(empty) as folder:
        (folder / "text.md").write_text("one")
    assert names(empty) == ["text.md"]
    with pytest.raises(ConfigError, match="raced exists already"), new_folder(tmp_path / "raced"):
        (tmp_path / "raced").mkdir()
        (tmp_path / "raced" / "theirs").write_text("theirs")
    assert names(tmp_path / "raced") == ["theirs"] and not list(tmp_path.glob(".*"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(ConfigError, match="was started in"):
        require_new(Path())


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), DiskFullError),
        (SafetensorError("I/O error: No space left on device (os error 28)"), DiskFullError),
        (OSError(errno.EIO, "Input/output error"), DiskError),
    ],
)
def test_a_disk_that_refuses_is_one_line_and_leaves_nothing(tmp_path: Path, error: Exception, kind: type[DiskError]) -> None:
    with pytest.raises(kind, match=r"cannot write .*/out: ") as raised, new_folder(tmp_path / "out") as folder:
        (folder / "text.md").write_text("half")
        raise error
    assert raised.value.exit_code == 74 and not list(tmp_path.iterdir())


@posix
@pytest.mark.skipif(sys.platform != "win32" and os.geteuid() == 0, reason="root writes everywhere")
def test_a_place_that_cannot_be_written_is_refused_before_anything(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(DiskError, match=r"cannot write to .*closed") as raised:
        require_new(tmp_path / "closed" / "a" / "out")
    assert raised.value.exit_code == 77


def test_nothing_begins_where_no_file_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DiskError, match="cannot write to "):
        require_new(tmp_path / "file" / "out")


@posix
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o007, 0o660)])
def test_what_libraries_write_obeys_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        with new_folder(tmp_path / "out") as folder:
            (folder / "part").mkdir()
            save_file({"a": torch.ones(1)}, folder / "part" / "a.safetensors")
            for name in ("part/b.json", "c.safetensors"):
                (folder / name).touch(mode=0o600)
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "out").rglob("*.*")} == {mode}


def test_a_disk_of_its_own_is_refused_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "disk").mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda path: path.name == "disk")
    with pytest.raises(ConfigError, match=r"disk is a disk of its own.*--out .*disk/NAME"):
        require_new(tmp_path / "disk")
