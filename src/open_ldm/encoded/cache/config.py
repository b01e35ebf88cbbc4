"""Settings of a cache."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from pydantic import Field

from open_ldm.core.config import Config

StoredDtype = Literal["float32", "bfloat16"]
DTYPES: dict[StoredDtype, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}

_SHARD_MB, _LARGE_SHARD_MB, _LARGE = 16.0, 1000.0, 1_000_000


class CacheConfig(Config):
    """Where encoded data are kept, and how.

    A section that was begun keeps its `shard_mb` and `batch_size`.

    Attributes:
        path: The folder of the cache.
        latents: Number format of latents: float32 keeps the encoder's output, bfloat16 rounds it to 8 significant bits and
            halves the space.
        tokens: Number format of caption features, likewise.
        shard_mb: Size of a file in millions of bytes; null is 16, and 1,000 for more than a million pictures. A killed run
            loses at most the files that it was making.
        batch_size: Pictures that are encoded together; it can change the last bits.
        frozen: The cache is used as it is: no picture is looked for, compared or encoded.
    """

    path: Path
    latents: StoredDtype = "float32"
    tokens: StoredDtype = "float32"
    shard_mb: float | None = Field(default=None, gt=0, le=4096)
    batch_size: int = Field(default=16, ge=1)
    frozen: bool = False

    def shard_bytes(self, pictures: int) -> int:
        """Return about how many bytes a file of a section of so many pictures gets."""
        usual = _SHARD_MB if pictures <= _LARGE else _LARGE_SHARD_MB
        return int(1e6 * (usual if self.shard_mb is None else self.shard_mb))
