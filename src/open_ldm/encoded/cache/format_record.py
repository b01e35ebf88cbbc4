"""Which number format a cache's autoencoder computes in, where the recipe leaves that open: chosen once, by one process.

The sections themselves are named by hashes of an encoder in its format (latents.py). This record comes before the first of
them, so that processes that start together on an empty cache fill one section, whatever each would have chosen.

    autoencoder-KEY.json    the choice, and why; KEY is that of the encoder in float32
    .autoencoder            locked by the process that chooses
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from open_ldm.core.errors import DataError, DiskError
from open_ldm.core.files import open_handle, read_json_object, write_json
from open_ldm.core.locks import lock_byte
from open_ldm.core.plain_data import parse_json

Format = Literal["float32", "bf16"]

_SCHEMA = 1
_LOCK, _LOOK_SECONDS = ".autoencoder", 0.2


@dataclass(frozen=True)
class FormatRecord:
    """The format of one encoder in one cache.

    Attributes:
        root: The folder of the cache.
        encoders: Fingerprint of the encoder in each format.
    """

    root: Path
    encoders: Mapping[Format, str]

    @property
    def file(self) -> Path:
        """Where the choice is written down."""
        return self.root / f"autoencoder-{self.encoders['float32'][:16]}.json"

    def read(self, transform: Mapping[str, Any], rows: int) -> Format | None:
        """Read the format that the cache was begun with: that of its choice, else that of its latents of this encoder.

        Where it holds latents in both, those of these views of as many pictures count before others, then those in float32.

        Args:
            transform: How views are cut, as plain data.
            rows: Number of pictures.

        Returns:
            The format; None where nothing of this encoder was begun.

        Raises:
            DataError: What was written down is damaged.
        """
        if self.file.is_file():
            return self._written()
        found: list[tuple[bool, bool, Format]] = []
        for layout in sorted(self.root.glob("latents-*/section.json")):
            content = read_json_object(layout)
            made_from = content.get("made_from")
            for dtype, fingerprint in self.encoders.items():
                if isinstance(made_from, dict) and made_from.get("autoencoder") == fingerprint:
                    these = made_from.get("transform") == transform and content.get("rows") == rows
                    found.append((these, dtype == "float32", dtype))
        return max(found)[2] if found else None

    def write(self, dtype: Format, why: str) -> None:
        """Write down a choice. Raises DiskError."""
        write_json(self.file, {"schema": _SCHEMA, "encoder": self.encoders["float32"], "dtype": dtype, "why": why})

    @contextmanager
    def choosing(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Context manager in which no other process chooses for this cache; `interrupt` is called while one does.

        Raises:
            DiskError: The folder cannot be written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            handle = open_handle(self.root / _LOCK, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise self._refused(error) from error
        try:
            while not self._lock(handle):
                interrupt()
                time.sleep(_LOOK_SECONDS)
            yield
        finally:
            os.close(handle)

    def _lock(self, handle: int) -> bool:
        try:
            return lock_byte(handle, 0, wait=False)
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> DiskError:
        return DiskError.of(f"cannot write to cache {self.root}", error)

    def _written(self) -> Format:
        try:
            dtype: Any = parse_json(self.file.read_text(encoding="utf-8"))["dtype"]
        except (OSError, ValueError, KeyError, TypeError):
            dtype = None
        if dtype == "bf16":
            return "bf16"
        if dtype != "float32":
            raise DataError(f"{self.file} is damaged", fix="remove it; the latents that are there then tell the format")
        return "float32"
