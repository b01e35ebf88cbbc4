"""A training that ends itself with SIGKILL as soon as it has saved once, for benchmarks/gpu_truth.py."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

from open_ldm.runs.recipe import load_recipe
from open_ldm.runs.train import train


def main() -> None:
    """Train `recipe changes...` in the folder that comes first."""
    run, name, *changes = sys.argv[1:]

    def watch() -> None:
        while not list((Path(run) / "checkpoints").glob("samples-*/MANIFEST.json")):
            time.sleep(0.002)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    train(load_recipe(name, changes), Path(run), silent=True)


if __name__ == "__main__":
    main()
