#!/usr/bin/env bash
# datasets and a local folder whose name has square brackets.
#
# Input: one parquet file, train.parquet, in a folder "plain" and in a folder "set [v2]" beside it.
#
# Expected: load_dataset(FOLDER) opens both; the folder exists, and its name was not given as a pattern.
#
# Seen (datasets 5.2.0, Linux): the plain folder opens; the other raises EmptyDatasetError, "doesn't contain any data files". The
# folder's own name is joined to the patterns that the library looks for, and [v2] then stands for one letter, v or 2. With
# data_files=FILE a full path with brackets fails likewise, with a ValueError; glob.escape(FILE) opens it.
#
# Exits with 0 while this behaviour is there, with 1 once it changes. No code of this project is used.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check datasets==5.2.0 numpy==2.4.6
export HF_HOME="$work/cache" HF_HUB_OFFLINE=1
"$work/venv/bin/python" - "$work" <<'PYTHON'
import glob
import sys
from pathlib import Path

import datasets

datasets.disable_progress_bars()
root = Path(sys.argv[1])


def opened(path: str, **more: object) -> str:
    try:
        return f"{datasets.load_dataset(path, **more)['train'].num_rows} rows"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:60]}"


for name in ("plain", "set [v2]"):
    (root / name).mkdir()
    datasets.Dataset.from_dict({"n": [1, 2, 3]}).to_parquet(root / name / "train.parquet")
file = str(root / "set [v2]" / "train.parquet")
found = {
    "plain folder": opened(str(root / "plain")),
    "folder with brackets": opened(str(root / "set [v2]")),
    "file": opened("parquet", data_files=file),
    "file, escaped": opened("parquet", data_files=glob.escape(file)),
}
print(f"datasets {datasets.__version__}:", *(f"  {name}: {said}" for name, said in found.items()), sep="\n")
rows = [said == "3 rows" for said in found.values()]
sys.exit(0 if rows == [True, False, False, True] else 1)
PYTHON
