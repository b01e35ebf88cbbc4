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
PROGRAM = """
import importlib, pkgutil, sys, open_ldm
from open_ldm.cli.main import main

if __name__ == "__main__":
    for arguments in {commands}:
        try:
            main(arguments)
        except SystemExit as ended:
            assert not ended.code, arguments
    names = [found.name for found in pkgutil.walk_packages(open_ldm.__path__, "open_ldm.")]
    for name in names:
        importlib.import_module(name)
    print(len(names), *[name for name in {without} if sys.modules.get(name) is not None])
"""


def test_a_run_can_be_trained_and_sampled_and_every_module_imported(tmp_path: Path) -> None:
    """One process after the other, since each begins with the imports; its worker has an interpreter of its own."""
    train = ["train", str(tiny_recipe(tmp_path)), "data.workers=1", "training.samples=8", "preview.count=1", "--out", "run"]
    commands = [train, ["sample", "run", "--prompt", "a large red circle", "--out", "drawn"]]
    (tmp_path / "program.py").write_text(PROGRAM.format(commands=commands, without=WITHOUT))
    done = run_without(WITHOUT, ["program.py"], tmp_path, first=SPAWN)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "exit.json").read_text())["code"] == 0
    assert (tmp_path / "run" / "report.html").is_file() and (tmp_path / "drawn" / "00000.png").is_file()
    count, *seen = done.stdout.splitlines()[-1].split()
    assert int(count) > 200 and not seen


def test_an_alphabet_without_a_sign_is_no_reason_to_fail() -> None:
    program = "from open_ldm.cli import main; main.app.command('x')(lambda: print('a → b')); main.main(['x'])"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.split()) == (0, [b"a", b"?", b"b"]), done.stderr
