"""Packs a trained run for models/: its averaged weights in bf16, its recipe, its autoencoder, and the SHA-256 of all.

python benchmarks/pack_model.py RUN models/NAME     # models/NAME must not exist yet; a card, README.md, is written by hand
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from open_ldm.commands.pack import pack_model
from open_ldm.core.errors import OpenLdmError

SUMS = "SHA256SUMS"


def sums_of(folder: Path) -> str:
    """Lines of `sha256sum` for weights, autoencoder and recipe; `sha256sum -c SHA256SUMS` in the folder checks them."""
    weights = (file for part in ("checkpoints", "vae") for file in sorted((folder / part).rglob("*")) if file.is_file())
    files = [*weights, folder / "config.yaml"]
    return "".join(
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(folder).as_posix()}\n" for file in files
    )


def main() -> int:
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    run, out = Path(sys.argv[1]), Path(sys.argv[2])
    try:
        size = pack_model(run, out)
    except OpenLdmError as error:
        print(f"error: {error.one_line()}", file=sys.stderr)
        return error.exit_code
    (out / SUMS).write_text(sums_of(out), encoding="utf-8")
    print(f"{out}: {size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
