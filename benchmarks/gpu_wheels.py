"""Collect the wheels that a GPU machine without network lacks, for benchmarks/gpu.sh.

    python benchmarks/gpu_wheels.py --have names.txt      # into .whl/; names.txt: what `pip list` there gives, one name a line
    python benchmarks/gpu_wheels.py --have names.txt --list

Needed are open-ldm's own requirements and diffusers, with what they require in turn, in the versions of constraints.txt. All
wheels together must stay under 60 MiB, which is what such machines take.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from collections.abc import Collection, Iterable, Sequence
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
BESIDE = ("diffusers",)
NEVER = ("torch", "numpy", "triton", "nvidia", "torchvision", "setuptools", "sympy", "networkx")
"""A machine with CUDA has its own, which must stay."""
PYTHON = "3.12"
PLATFORMS = ("manylinux2014_x86_64", *(f"manylinux_2_{number}_x86_64" for number in (17, 24, 27, 28, 31, 34, 35, 39)))
MOST_BYTES = 60 << 20


def needed(roots: Iterable[str], have: Collection[str]) -> list[str]:
    """Return the names that are needed and not there, by what the distributions installed here require.

    Args:
        roots: Names that are needed whatever requires them.
        have: Names that are there.

    Returns:
        Canonical names, sorted.
    """
    there = {canonicalize_name(name) for name in (*have, *NEVER)}
    waiting, found, seen = [canonicalize_name(name) for name in roots], set(), set()
    while waiting:
        name = waiting.pop()
        if name in seen or name in there or name.startswith("nvidia-"):
            continue
        seen.add(name)
        found.add(name)
        try:
            required = requires(name) or []
        except PackageNotFoundError:
            continue
        for text in required:
            one = Requirement(text)
            if one.marker is None or one.marker.evaluate({"extra": "", "python_version": PYTHON, "sys_platform": "linux"}):
                waiting.append(canonicalize_name(one.name))
    return sorted(found)


def own_requirements() -> list[str]:
    """Names of what open-ldm requires, by pyproject.toml."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return [Requirement(text).name for text in content["project"]["dependencies"]]


def pins() -> dict[str, str]:
    """Version by canonical name, by constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = [re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)", line) for line in lines]
    return {canonicalize_name(match[1]): match[2] for match in found if match}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the list, and download."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--have", type=Path, required=True, help="names of the packages that are there, one a line")
    parser.add_argument("--out", type=Path, default=ROOT / ".whl")
    parser.add_argument("--list", action="store_true", help="print the wheels' names and fetch nothing")
    args = parser.parse_args(arguments)
    have = [re.split(r"[\s=@]", line.strip())[0] for line in args.have.read_text(encoding="utf-8").splitlines() if line.strip()]
    versions = pins()
    wanted = [
        f"{name}=={versions[name]}" if name in versions else name for name in needed((*own_requirements(), *BESIDE), have)
    ]
    print("\n".join(wanted))
    if args.list:
        return
    platforms = [part for name in PLATFORMS for part in ("--platform", name)]
    base = ["download", "-q", "--no-deps", "--only-binary=:all:", "--python-version", PYTHON, "--implementation", "cp"]
    subprocess.run([sys.executable, "-m", "pip", *base, *platforms, "-d", str(args.out), *wanted], check=True)
    total = sum(file.stat().st_size for file in args.out.glob("*.whl"))
    print(f"{len(list(args.out.glob('*.whl')))} wheels, {total / 2**20:.1f} MiB in {args.out}", file=sys.stderr)
    if total > MOST_BYTES:
        sys.exit(f"more than {MOST_BYTES >> 20} MiB: name more in --have, or fewer here")


if __name__ == "__main__":
    main()
