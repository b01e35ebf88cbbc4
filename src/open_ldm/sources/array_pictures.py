"""Pictures of an .npz file: what `ldm sample --npz` writes, and the files of samples and references that FID programs share."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from open_ldm.core.errors import DataError
from open_ldm.data.sample import BadPicture, IndexHashes, Sample, SourceSummary

ARRAY, ARRAY_FILE = "arr_0", "samples.npz"
_NEEDED = f"an array {ARRAY} of uint8 [N, H, W, 3], as `ldm sample --npz` writes it"
_LOCAL_HEADER = 30
"""Bytes of a zip entry before its name, whose length stands in bytes 26 and 27, and that of the extra field in 28 and 29."""


@dataclass(frozen=True)
class ArrayPictures:
    """The pictures of one array, as a source without classes or captions.

    Attributes:
        path: Of the file, for messages.
        pictures: uint8 [N, H, W, 3], read from the disk as they are needed where the file is not compressed.
        checksum: Of the whole array, as the archive keeps it: files of samples often have one shape.
    """

    path: Path
    pictures: NDArray[np.uint8]
    checksum: int

    @property
    def class_names(self) -> tuple[str, ...]:
        """None: other arrays of the file are not read."""
        return ()

    @property
    def summary(self) -> SourceSummary:
        """What the file holds."""
        return SourceSummary(len(self), 0, 0, f"array {ARRAY} of {self.path.name}")

    @property
    def fingerprint(self) -> str:
        """Hash of the array's shape and checksum."""
        about = f"array/{self.pictures.shape}/{self.checksum}"
        return hashlib.blake2b(about.encode(), digest_size=16).hexdigest()

    @property
    def hashes(self) -> IndexHashes:
        """All three are the fingerprint."""
        return IndexHashes(self.fingerprint, self.fingerprint, self.fingerprint)

    def digests(self, indices: Sequence[int], on_pictures: Callable[[int], None]) -> list[bytes | BadPicture]:
        """Compute the hash of the pixels of each picture."""
        found: list[bytes | BadPicture] = []
        for index in indices:
            found.append(hashlib.blake2b(self.pictures[index].tobytes(), digest_size=16).digest())
            on_pictures(1)
        return found

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Sample:
        height, width = self.size_of(index)
        return Sample(self.sample_id(index), np.array(self.pictures[index]), height, width)

    def sample_id(self, index: int) -> str:
        """Return the number of the picture."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        return f"{index:06d}"

    def size_of(self, index: int) -> tuple[int, int]:
        """Return height and width in pixels, which all pictures share."""
        height, width = self.pictures.shape[1:3]
        return height, width

    def label_of(self, index: int) -> int | None:
        """Return None."""
        return None

    def captions_of(self, index: int) -> tuple[str, ...]:
        """Return no caption."""
        return ()

    def captions(self) -> list[str]:
        """Return no caption."""
        return []


def open_array(path: Path) -> ArrayPictures:
    """Open the pictures of an .npz file; an array that is not compressed stays on the disk.

    Raises:
        DataError: There is no such file, or it does not hold such an array.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            entry = archive.getinfo(f"{ARRAY}.npy")
            array = _mapped(path, file, entry) if entry.compress_type == zipfile.ZIP_STORED else _read(archive, entry)
    except KeyError:
        raise DataError(f"{path} has no array {ARRAY}", needed=_NEEDED) from None
    except Exception as error:  # a broken archive or header raises whatever its parser fails at
        raise DataError(f"{path} cannot be read ({str(error) or type(error).__name__})", needed=_NEEDED) from error
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] != 3 or not array.size:
        raise DataError(f"{ARRAY} of {path} is {array.dtype} {list(array.shape)}", needed=_NEEDED)
    return ArrayPictures(path, array, entry.CRC)


def _mapped(path: Path, file: IO[bytes], entry: zipfile.ZipInfo) -> NDArray[Any]:
    """The array of an entry that is stored as it is, as a view of the file."""
    file.seek(entry.header_offset)
    header = file.read(_LOCAL_HEADER)
    file.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), 1)
    shape, fortran, dtype = _described(file)
    size = dtype.itemsize * int(np.prod(shape, dtype=object))
    if file.tell() + size > path.stat().st_size:
        raise ValueError(f"it ends within its array {list(shape)}")
    return np.memmap(path, dtype, "r", file.tell(), shape, "F" if fortran else "C")


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> NDArray[Any]:
    """The array of a compressed entry, in memory."""
    with archive.open(entry) as array:
        found: NDArray[Any] = np.lib.format.read_array(array, allow_pickle=False)
        return found


def _described(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and dtype that an array's header says, which is read."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects")
    return shape, fortran, dtype
