"""`import open_ldm`: which names it gives, from where, and what they promise."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import open_ldm as ldm
from open_ldm.api.boundary import as_arguments

SOURCE = Path(ldm.__file__).parent
FUNCTIONS = ["encode", "evaluate", "import_weights", "load_recipe", "load_run", "survey", "train", "transfer"]


def test_the_import_loads_nothing_and_the_names_load_when_used() -> None:
    script = (
        "import sys\n"
        "import open_ldm as ldm\n"
        "heavy = {'torch', 'numpy', 'pydantic', 'typing', 'open_ldm.api'} & (set(sys.modules) - before)\n"
        "assert not heavy, heavy\n"
        f"assert dir(ldm) == {sorted([*FUNCTIONS, 'OpenLdmError', 'Run', 'Samples', '__version__'])}, dir(ldm)\n"
        "assert ldm.OpenLdmError.__module__ == 'open_ldm.core.errors' and 'torch' not in sys.modules\n"
        "assert not hasattr(ldm, 'trian')\n"
    )
    script = "import sys\nbefore = set(sys.modules)\n" + script
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_type_checkers_are_told_what_is_loaded() -> None:
    tree = ast.parse((SOURCE / "__init__.py").read_text())
    guarded = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    told = {
        alias.name: (node.module or "").removeprefix("open_ldm.")
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert told == ldm._HOMES
    assert sorted([*told, "__version__"]) == sorted(ldm.__all__) == dir(ldm)


def test_no_module_hides_a_public_name() -> None:
    """Importing a sub-module sets it as an attribute of the package: `open_ldm.transfer_learning` would then be that module."""
    taken = {path.stem for path in SOURCE.iterdir()}
    assert "api" in taken and not taken & set(ldm.__all__)


@pytest.mark.parametrize("name", [*FUNCTIONS, "Run.sample", "Samples.save"])
def test_every_function_says_what_it_takes_gives_and_raises(name: str) -> None:
    function: Any = ldm
    for part in name.split("."):
        function = getattr(function, part)
    doc, signature = inspect.getdoc(function) or "", inspect.signature(function)
    assert all(f"\n{part}:\n" in doc for part in ("Args", "Returns", "Raises"))
    for parameter in signature.parameters.values():
        if parameter.name == "self":
            continue
        stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        assert f"\n    {stars}{parameter.name}: " in doc, f"{name} does not describe {parameter.name}"
        assert parameter.annotation is not inspect.Parameter.empty
    assert signature.return_annotation is not inspect.Signature.empty


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("--class was given; fix: --prompt TEXT", "classes was given; fix: prompts=TEXT"),
        ("fix: --class 'red circle'", "fix: classes='red circle'"),
        (
            "--negative-prompt has no effect; fix: --semantic-scale 2, or",
            "negative_prompt has no effect; fix: semantic_scale=2, or",
        ),
        ("fix: leave --prompt, --prompts and --class out", "fix: leave prompts and classes out"),
        ("--size 'zz' cannot be read", "view='zz' cannot be read"),
        ("fix: choose another --out", "fix: choose another out"),
        ("cannot read /tmp/a--b or --", "cannot read /tmp/a--b or --"),
        ("fix: run the same command again to continue", "fix: make the same call again to continue"),
        ("fix: the same command with --task", "fix: the same call with task"),
        ("run it again with the remaining --metrics", "call it again with the remaining metrics"),
    ],
)
def test_errors_speak_of_arguments(said: str, meant: str) -> None:
    assert as_arguments(said) == meant
