"""What is installed and what is written into the repository: torchvision stays out, and so do private places."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
UNWANTED = {"torchvision", "torch-fidelity", "clean-fid", "lpips", "open-clip-torch", "timm"}
LIGHT = ("", "all", "dev", "docs")
# Put together here, so that this file does not hold what it looks for.
PRIVATE_PATHS = re.compile(r"(?<![\w.~$}])/(?:" + "|".join(["home", "root", "work", "Users"]) + r")/[\w.-]+")
PACKAGE_HOSTS = re.compile(r"\b(?:[\w-]+\.)*(?:artifactory|nexus|devpi|pypi|pythonhosted|jfrog)[\w-]*(?:\.[\w-]+)+", re.I)
INDEX_OPTIONS = re.compile("-" + r"-(?:extra-)?index-url|-" + r"-trusted-host|-" + r"-find-links")


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(lines: Iterable[str], extras: Iterable[str] = ()) -> Iterator[Requirement]:
    """Those of `lines` that hold on this system, under `extras`."""
    for requirement in map(Requirement, lines):
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement


def direct() -> dict[str, list[Requirement]]:
    """What pyproject.toml asks for, by extra; "" is what every installation has."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    return {extra: [Requirement(line) for line in lines] for extra, lines in groups.items()}


def closure(start: Iterable[Requirement]) -> dict[str, str]:
    """Every installed distribution that `start` needs, with the extras it asks for, and who asked for it."""
    waiting = [(requirement, "the project") for requirement in start]
    asked: dict[str, str] = {}
    seen = set()
    while waiting:
        requirement, by = waiting.pop()
        name = normalised(requirement.name)
        asked.setdefault(name, by)
        if (name, *sorted(requirement.extras)) in seen:
            continue
        seen.add((name, *sorted(requirement.extras)))
        try:
            lines = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # of an extra that is not installed here
        waiting += [(each, name) for each in requirements(lines, requirement.extras)]
    return asked


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return {normalised(name): version for name, _, version in (line.partition("==") for line in lines)}


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
    asked = closure(requirement for group in direct().values() for requirement in group)
    assert len(asked) > 40, "the walk found the real dependencies"
    assert not {name: by for name, by in asked.items() if name in UNWANTED}


def test_nothing_unwanted_is_pinned() -> None:
    """The pins hold the whole graph of all extras, also of those that are not installed here."""
    assert not UNWANTED & pins().keys()


def test_everything_is_pinned() -> None:
    asked = closure(requirement for group in direct().values() for requirement in group)
    assert not {name: by for name, by in asked.items() if name not in {"open-ldm", *pins()}}
    for requirement in (each for group in direct().values() for each in group if each.name != "open-ldm"):
        assert requirement.specifier.contains(pins()[normalised(requirement.name)]), requirement


def test_pins_are_plain_and_in_order() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines), "no local versions, no places"
    names = [line.partition("==")[0].lower() for line in lines]
    assert names == sorted(set(names))


def test_all_is_every_extra_for_users() -> None:
    groups = direct()
    (everything,) = groups["all"]
    assert everything.extras == groups.keys() - {"", "all", "dev", "docs"}


def test_heavy_libraries_are_imported_where_they_are_used() -> None:
    """`need` names the extra that installs a library; a plain import of one would fail without a word how to get it."""
    owner = {"huggingface-hub": "text"}  # of transformers and of diffusers
    owner |= {normalised(each.name): extra for extra, group in direct().items() if extra not in LIGHT for each in group}
    wrong, seen = [], 0
    for path in sorted((ROOT / "src").rglob("*.py")):
        if path.parent.name == "for_diffusers":
            continue  # loaded by diffusers, never by this program
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
                node.body.clear()  # walked later than this node itself
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "need":
                module, extra = ast.literal_eval(node.args[0]), ast.literal_eval(node.keywords[0].value)
                seen += 1
                if owner.get(normalised(module.partition(".")[0])) != extra:
                    wrong.append(f"{path.name}:{node.lineno} {module} is not of [{extra}]")
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            wrong += [f"{path.name}:{node.lineno} {name}" for name in names if normalised(name.partition(".")[0]) in owner]
    assert not wrong and seen > 10


def test_the_version_is_in_one_place() -> None:
    done = subprocess.run([sys.executable, "-m", "open_ldm", "--version"], capture_output=True, text=True, check=True)
    (written,) = re.findall(r'^__version__ = "(.+)"$', (ROOT / "src/open_ldm/__init__.py").read_text(), re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert done.stdout.strip() == written
    assert "version" in project["project"]["dynamic"] and "version" not in project["project"]


def test_workflow_and_hooks_call_what_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    workflow = (ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8")
    jobs = yaml.safe_load(workflow)
    called = set(re.findall(r"\bmake ([a-z]+)", workflow))
    assert {"test", "browser", "docs", "wheel"} <= called <= targets
    assert jobs["permissions"] == {"contents": "read"} and "secrets." not in workflow
    assert all((ROOT / path).exists() for path in re.findall(r"\btests/\w[\w/.]*\w", workflow))
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    for command in (hook["entry"].removeprefix(".venv/bin/").split(" --")[0] for hook in hooks):
        assert f"$(BIN)/{command}" in makefile


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
