#!/usr/bin/env bash
# datasets and a file that belongs to no split, in a folder where other files do.
#
# Input: a folder of parquet files: train-00000-of-00002, train-00001-of-00002 and more.parquet, three rows each.
#
# Expected: nine rows, or a word about the file that is left out. A folder of more.parquet alone gives its three rows.
#
# Seen (datasets 5.2.0, Linux): six rows, in one split "train", without an error, a warning or a log line. Names that say a split
# are looked for first, and only where no file has one are all files taken.
#
# Exits with 0 while this behaviour is there, with 1 once it changes. No code of this project is used.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check datasets==5.2.0 numpy==2.4.6
export HF_HOME="$work/cache" HF_HUB_OFFLINE=1
"$work/venv/bin/python" - "$work" <<'PYTHON'
import logging
import sys
import warnings
from pathlib import Path

import datasets

datasets.disable_progress_bars()
root = Path(sys.argv[1])
said: list[str] = []


class Listener(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        said.append(record.getMessage())


logging.getLogger("datasets").addHandler(Listener(logging.WARNING))
rows = datasets.Dataset.from_dict({"n": [1, 2, 3]})
names = {"whole": ["train-00000-of-00002", "train-00001-of-00002", "more"], "alone": ["more"]}
counts = {}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for folder, files in names.items():
        (root / folder).mkdir()
        for file in files:
            rows.to_parquet(root / folder / f"{file}.parquet")
        counts[folder] = {split: part.num_rows for split, part in datasets.load_dataset(str(root / folder)).items()}
about = [text for text in (*said, *(str(one.message) for one in caught)) if "more" in text]
print(f"datasets {datasets.__version__}: {counts}, said of more.parquet: {about or 'nothing'}")
sys.exit(0 if counts == {"whole": {"train": 6}, "alone": {"train": 3}} and not about else 1)
PYTHON
