"""Settings of a cache."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from pydantic import Field

from open_ldm.core.config import Config

StoredDtype = Literal["float32", "bfloat16"]
DTYPES: dict[StoredDtype, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class CacheConfig(Config):
    """Where encoded data are kept, and how.

    `latents`, `tokens`: number formats; float32 keeps what the encoders gave, bfloat16 rounds it to 8 significant bits and
    halves the space. `shard_mb`: size of a file in millions of bytes; a killed run loses at most the files it was at, so
    small ones suit slow machines and large ones data of many millions. `batch_size`: pictures encoded together; it can
    change the last bits. A section that was begun keeps the `shard_mb` and the `batch_size` it was begun with.
    """

    path: Path
    latents: StoredDtype = "float32"
    tokens: StoredDtype = "float32"
    shard_mb: float = Field(default=16.0, gt=0, le=4096)
    batch_size: int = Field(default=16, ge=1)
