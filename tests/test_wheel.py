"""The wheel, built and installed into an environment of its own outside the checkout, is all that a demo needs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.commands.test_demo import SMALL

pytestmark = [pytest.mark.wheel, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[1]


def run(command: Sequence[str | Path], folder: Path, codes: Sequence[int] = (0,)) -> str:
    """The output of a command that knows nothing of this checkout. Fails with what the command said."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=840, check=False)
    assert done.returncode in codes, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling", reason="the package cannot be built without hatchling")
    folder = tmp_path_factory.mktemp("built")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (built,) = folder.glob("*.whl")
    return built


def test_every_file_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    source = ROOT / "src"
    files = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    expected = {name for name in files if "__pycache__" not in name and ".egg-info" not in name}
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == expected
    assert {Path(name).suffix for name in packed} >= {".py", ".yaml", ".css", ".typed"}


def test_the_wheel_runs_the_demo_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "environment"
    venv.create(home)
    scripts = home / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / Path(sys.executable).name.replace("pythonw", "python")
    run([sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel], tmp_path)
    # What it depends on is taken from here: the files of this environment, without its link to the checkout.
    packages = Path(run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], tmp_path).strip())
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    assert Path(run([python, "-c", "import open_ldm; print(open_ldm.__file__)"], tmp_path)).is_relative_to(home)

    run([scripts / "ldm", "demo", *SMALL, "training.preview_every_samples=32", "--out", "run"], tmp_path, codes=(0, 1))
    report = (tmp_path / "run" / "improved" / "report.html").read_text(encoding="utf-8")
    assert report.count("<svg") >= 1 and report.count('src="data:image/png;base64,') >= 1
    page = (tmp_path / "run" / "demo.html").read_text(encoding="utf-8")
    assert "Move the slider" in page and "</html>" in page and page.count('src="data:image/png;base64,') >= 12
    assert not re.findall(r"\{\{|\{%|Undefined", page), "a template was filled"
    assert "demo-baseline" in run([scripts / "ldm", "recipes"], tmp_path)
