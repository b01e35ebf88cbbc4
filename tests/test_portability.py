"""What a system without POSIX modules, or an environment without any extra, can do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.blocked import NOT_ON_WINDOWS, OF_EXTRAS, run_without
from tests.runs.tiny import tiny_recipe

WITHOUT = (*NOT_ON_WINDOWS, *OF_EXTRAS)
SPAWN = 'import multiprocessing\nmultiprocessing.set_start_method("spawn")'  # the only way on Windows, the usual one on macOS
IMPORT_ALL = """
import importlib, pkgutil, sys, open_ldm
names = [found.name for found in pkgutil.walk_packages(open_ldm.__path__, "open_ldm.")]
for name in names:
    importlib.import_module(name)
print(len(names), *[name for name in {without} if sys.modules.get(name) is not None])
"""


def test_every_module_can_be_imported(tmp_path: Path) -> None:
    done = run_without(WITHOUT, ["-c", IMPORT_ALL.format(without=WITHOUT)], tmp_path)
    assert done.returncode == 0, done.stderr
    count, *seen = done.stdout.split()
    assert int(count) > 200 and not seen


def test_a_run_can_be_trained_and_sampled(tmp_path: Path) -> None:
    arguments = ["train", str(tiny_recipe(tmp_path)), "data.workers=1", "training.samples=32", "--out", "run"]
    done = run_without(WITHOUT, ["-m", "open_ldm", *arguments], tmp_path, first=SPAWN)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "exit.json").read_text())["code"] == 0
    assert (tmp_path / "run" / "report.html").is_file()
    drawn = ["sample", "run", "--prompt", "a large red circle", "--out", "drawn"]
    done = run_without(WITHOUT, ["-m", "open_ldm", *drawn], tmp_path)
    assert done.returncode == 0, done.stderr


def test_an_alphabet_without_a_sign_is_no_reason_to_fail() -> None:
    program = "from open_ldm.cli import main; main.app = lambda *_, **__: print('a → b'); main.main(['x'])"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.split()) == (0, [b"a", b"?", b"b"]), done.stderr
