"""One process of several that train: python -m tests.runs.ranks FOLDER. They differ in one thing after another."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from open_ldm.core.errors import OpenLdmError
from open_ldm.runs.recipe import load_recipe
from open_ldm.runs.train import train


def main(folder: Path) -> None:
    rank = os.environ["RANK"]

    def of(name: str) -> list[str]:
        return [f"data.source={{kind: folder, path: {folder / name}}}", "conditioning.semantic={kind: none}"]

    cases: dict[str, tuple[list[str], Path]] = {
        "folder": ([], folder / f"run{rank}"),
        "recipe": ([f"training.optimizer.learning_rate=0.00{1 + int(rank)}"], folder / "run"),
        "data": (of(f"pictures-{rank}"), folder / "run"),
        "missing": (of(("pictures-0", "nowhere")[int(rank)]), folder / "run"),
    }
    found = {}
    for name, (changes, out) in cases.items():
        try:
            train(load_recipe(str(folder / "tiny.yaml"), changes), out, silent=True)
        except OpenLdmError as error:
            found[name] = [error.one_line(), error.exit_code]
        (folder / f"{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
