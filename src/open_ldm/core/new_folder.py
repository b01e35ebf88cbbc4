"""A folder that a command makes: seen whole or not at all, and never in place of anything that was there."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from open_ldm.core.errors import ConfigError, DiskError
from open_ldm.core.files import fsync_path, obey_umask, require_writable

_BY_LIBRARIES = (".safetensors", ".json")
"""Endings of what libraries write, some of them readable by the owner alone."""


def require_new(out: Path) -> None:
    """Check that a folder can be made, before time is spent on what it will hold. An empty folder counts as none.

    Args:
        out: The folder to make.

    Raises:
        ConfigError: There is a file, or a folder that holds something, or it is the current folder or a disk of its own.
        DiskError: Nothing can be written there.
    """
    if out.is_dir() and out.resolve() == Path.cwd():
        raise ConfigError(
            f"{out} is the folder that this command was started in", needed="a folder to make", fix="choose another --out"
        )
    if out.is_dir() and out.is_mount():
        raise ConfigError(f"{out} is a disk of its own, which cannot be replaced", fix=f"--out {out}/NAME")
    if out.is_dir() and not any(out.iterdir()):
        require_writable(out.resolve().parent)
        return
    if out.exists() or out.is_symlink():
        what = "exists already and is not empty" if out.is_dir() else "exists already and is no folder"
        raise ConfigError(f"{out} {what}", needed="a new or empty folder", fix="choose another --out")
    require_writable(out.parent)


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Give a temporary folder beside `out` that becomes `out` once the block has ended well, and is removed otherwise.

    Files whose writers are libraries get the permissions that every new file gets here, and everything is flushed to the disk
    before it is seen at `out`.

    Args:
        out: The folder to make, as `require_new` wants it.

    Raises:
        ConfigError: `out` is in use, now or at the end.
        DiskError: The disk is full or refuses.
    """
    require_new(out)
    final = out.resolve()
    temporary = final.with_name(f".{final.name}-{secrets.token_hex(4)}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        _flush(temporary)
        require_new(out)
        if final.is_dir():
            final.rmdir()  # Windows renames onto no folder, even an empty one
        temporary.rename(final)
        fsync_path(final.parent)
    except (OSError, SafetensorError) as error:
        raise DiskError.of(f"cannot write {out}", error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _flush(folder: Path) -> None:
    for place, _, names in os.walk(folder):
        for name in names:
            file = Path(place, name)
            if file.suffix in _BY_LIBRARIES:
                obey_umask(file)
            fsync_path(file)
        fsync_path(Path(place))
