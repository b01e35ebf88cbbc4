"""Writes the reference of a packaged recipe from finished runs of it that differ in their seed alone.

ldm train demo-improved training.seed=0 --out runs/s0; ldm train demo-improved training.seed=1 --out runs/s1
python benchmarks/reference_curve.py demo-improved runs/s0 runs/s1
python benchmarks/reference_curve.py demo-quick-improved runs/q0 runs/q1     # another file name, where settings were changed
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from figures import processor
from open_ldm.core.errors import DataError, OpenLdmError
from open_ldm.core.plain_data import to_json
from open_ldm.run_folder.history import lookup, read_history
from open_ldm.run_folder.reference_curve import FOLDER, MOST_BYTES, measured_curve
from open_ldm.runs.catalogue import packaged

PACKAGE = Path(__file__).parents[1] / "src" / "open_ldm" / FOLDER


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--commit", default="HEAD", help="that trained the runs; this one by default")
    options = parser.parse_args()
    name, runs = options.name, options.runs
    revision = ["git", "rev-parse", "--short", options.commit]
    commit = subprocess.run(revision, capture_output=True, text=True, check=True).stdout.strip()
    try:
        histories = [read_history(run) for run in runs]
        recipe = str(histories[0].config.get("name"))
        wrong = [one.folder.name for one in histories if one.config.get("name") != recipe or one.state.word != "finished"]
        if wrong or recipe not in packaged():
            raise DataError(
                f"{(wrong or [recipe])[0]} is no finished run of one recipe", needed="finished runs of a packaged one"
            )
        seeds = [int(lookup(one.config, "training.seed") or 0) for one in histories]
        found = measured_curve(histories, recipe, seeds, commit, datetime.now(UTC).date().isoformat())
        found = replace(found, machine=", ".join(filter(None, [found.machine, processor()])))
    except OpenLdmError as error:
        print(f"error: {error.one_line()}", file=sys.stderr)
        return error.exit_code
    text = to_json(found.to_json()) + "\n"
    assert len(text) <= MOST_BYTES, len(text)
    PACKAGE.mkdir(parents=True, exist_ok=True)
    (PACKAGE / f"{name}.json").write_text(text, encoding="utf-8")
    print(f"{PACKAGE / name}.json: {len(text):,} bytes; {found.sentence}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
