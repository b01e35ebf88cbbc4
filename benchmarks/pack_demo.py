"""Puts the two models of a finished `ldm demo` into the package, for `ldm studio` to open on.

python benchmarks/pack_demo.py runs/demo [FOLDER]     # FOLDER, by default the package's own, must not hold models yet
"""

from __future__ import annotations

import sys
from pathlib import Path

from open_ldm.commands.pack import pack_models
from open_ldm.core.errors import OpenLdmError
from open_ldm.studio.models import DEMO_BYTES, DEMO_MODELS

PACKAGE = Path(__file__).parents[1] / "src" / "open_ldm" / "demo_models"


def main() -> int:
    if len(sys.argv) not in (2, 3):
        print(__doc__, file=sys.stderr)
        return 2
    demo, out = Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) == 3 else PACKAGE
    try:
        sizes = pack_models({name: demo / name for name in DEMO_MODELS}, out, DEMO_BYTES)
    except OpenLdmError as error:
        print(f"error: {error.one_line()}", file=sys.stderr)
        return error.exit_code
    for name, size in sizes.items():
        print(f"{out / name}: {size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
