"""What is installed and what is written into the repository: torchvision stays out, and so do private places."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
UNWANTED = {"torchvision", "torch-fidelity", "clean-fid", "lpips", "open-clip-torch", "timm"}
# Put together here, so that this file does not hold what it looks for.
PRIVATE_PATHS = re.compile(r"(?<![\w.~$}])/(?:" + "|".join(["home", "root", "work", "Users"]) + r")/[\w.-]+")
PACKAGE_HOSTS = re.compile(r"\b(?:[\w-]+\.)*(?:artifactory|nexus|devpi|pypi|pythonhosted|jfrog)[\w-]*(?:\.[\w-]+)+", re.I)
INDEX_OPTIONS = re.compile("-" + r"-(?:extra-)?index-url|-" + r"-trusted-host|-" + r"-find-links")


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirement_name(requirement: str) -> str:
    return normalised(re.split(r"[\s\[<>=!~;(]", requirement, maxsplit=1)[0])


def closure(start: str) -> dict[str, str]:
    """Every installed distribution that `start` needs by default, and who asked for it. Extras are left out."""
    asked = {normalised(start): "the project"}
    waiting = [normalised(start)]
    while waiting:
        current = waiting.pop()
        try:
            requirements = metadata.requires(current) or []
        except metadata.PackageNotFoundError:
            continue  # wanted on another platform only
        for requirement in requirements:
            name = requirement_name(requirement)
            if "extra ==" not in requirement and name not in asked:
                asked[name] = current
                waiting.append(name)
    return asked


def tracked_files() -> list[Path]:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    if not files:
        pytest.skip("git tracks no file yet")
    return [path for path in files if path.is_file()]


def offences(text: str) -> list[str]:
    patterns = (PRIVATE_PATHS, PACKAGE_HOSTS, INDEX_OPTIONS)
    return [match.group() for pattern in patterns for match in pattern.finditer(text)]


def test_torchvision_is_not_installed() -> None:
    assert importlib.util.find_spec("torchvision") is None


def test_nothing_needs_torchvision() -> None:
    asked = closure("open-ldm")
    assert len(asked) > 10, "the walk found the real dependencies"
    assert not {name: by for name, by in asked.items() if name in UNWANTED}


def test_requirement_names_are_read() -> None:
    written = ["torch>=2.10", "Py_YAML (>=6)", "rich[jupyter]~=13", 'x.y ; python_version<"3"', "plain"]
    assert [requirement_name(text) for text in written] == ["torch", "py-yaml", "rich", "x-y", "plain"]


def test_tracked_files_name_no_private_place() -> None:
    found = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # pictures
        found += [f"{path.relative_to(ROOT)}: {offence}" for offence in offences(text)]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("see /" + "home/someone/x", 1),
        ("cp /" + "work/main/a b", 1),
        ("pip install -" + "-index-url x", 1),
        ("https://files.python" + "hosted.org/x", 1),
        ("../shared/data and https://example.org/home/page and a/work/b", 0),
        ("$HOME/x ~/work/x", 0),
    ],
)
def test_the_check_sees_private_places(text: str, count: int) -> None:
    assert len(offences(text)) == count
