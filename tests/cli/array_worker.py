"""One process of `ldm sample --npz` under torchrun's environment that dies on the way: RANK BATCHES ARGUMENTS."""

from __future__ import annotations

import os
import sys
from typing import Any

from open_ldm.cli.main import main
from open_ldm.sampling.generate import Generator


def dying(after: int) -> None:
    """Let this process end, as one that is killed does, when it is about to sample one batch more than `after`."""
    images, calls = Generator.images, 0

    def counted(self: Generator, *given: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > after:
            os._exit(9)
        return images(self, *given, **named)

    Generator.images = counted  # type: ignore[method-assign]


if __name__ == "__main__":
    if os.environ["RANK"] == sys.argv[1]:
        dying(int(sys.argv[2]))
    main(sys.argv[3:])
