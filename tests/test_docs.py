"""What the pages say can be followed: their Python runs, their links and paths exist, their commands are recipes."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
from pathlib import Path

import pytest

import open_ldm as ldm
from open_ldm.runs.recipe import load_recipe

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
MARK = "<!-- not run by the tests: "
FENCE = re.compile(rf"^({re.escape(MARK)}[^\n]* -->\n)?```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PYTHON = {
    f"{page.stem}-{number}": (bool(mark), text)
    for page in PAGES
    for number, (mark, text) in enumerate(
        (mark, text) for mark, words, text in FENCE.findall(page.read_text(encoding="utf-8")) if words.split()[:1] == ["python"]
    )
}
PROGRAMS = [name for name, (marked, _) in PYTHON.items() if not marked]
SKETCHES = [name for name, (marked, _) in PYTHON.items() if marked]


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(PYTHON[name][1], name, "exec"), names)
    if name == "autoencoders-0":
        assert list(names["decoded"].shape) == [2, 5, 32, 32]  # type: ignore[attr-defined]
        assert names["update"].applied  # type: ignore[attr-defined]
    if name == "evaluation-0":
        assert {result.estimate.name for result in names["after"].results} == {"kid", "precision", "recall"}  # type: ignore[attr-defined]


def wrong_calls(text: str) -> list[str]:
    """Calls of `ldm` and of a run whose name or arguments do not exist."""
    wrong = []
    for call in (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)):
        if not isinstance(call.func, ast.Attribute) or not isinstance(call.func.value, ast.Name):
            continue
        owner = {"ldm": ldm, "run": ldm.Run}.get(call.func.value.id)
        if owner is None:
            continue
        function = getattr(owner, call.func.attr, None)
        if function is None:
            wrong.append(f"{call.func.value.id}.{call.func.attr}")
            continue
        arguments = [None] * (len(call.args) + (owner is ldm.Run))
        try:
            inspect.signature(function).bind(*arguments, **{str(each.arg): None for each in call.keywords})
        except TypeError as error:
            wrong.append(f"{call.func.attr}: {error}")
    return wrong


@pytest.mark.parametrize("name", SKETCHES)
def test_what_is_not_run_calls_what_there_is(name: str) -> None:
    assert wrong_calls(PYTHON[name][1]) == []


def test_python_is_fenced_in_one_way_and_a_wrong_call_is_seen() -> None:
    assert PROGRAMS and SKETCHES
    for page in PAGES:
        words = [words for _, words, _ in FENCE.findall(page.read_text(encoding="utf-8"))]
        assert not {"py", "py3", "pycon"} & {word.split()[0] for word in words if word}, page
    assert wrong_calls("ldm.import_weights('a', 'b', [], outs=1)\nrun.samples()") == [
        "import_weights: got an unexpected keyword argument 'outs'",
        "run.samples",
    ]


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_and_paths_lead_somewhere(page: Path) -> None:
    """Links to files and to headings of pages, and paths of Python files in code; links to other sites are not followed."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, heading = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}, target
    for code in re.findall(r"`([^`\n]+)`", text):
        for name in re.findall(r"(?<![\w./*-])((?:[\w-]+/)+[\w-]+\.py)\b", code):
            found = any((folder / name).is_file() for folder in (ROOT, ROOT / "src" / "open_ldm"))
            assert found or name.endswith("/NAME.py"), name


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_no_two_brackets_stand_side_by_side(page: Path) -> None:
    """`[P] [title](page)` is read as a reference named "title", of which the strict build of the pages finds none."""
    text = re.sub(r"```.*?```|`[^`\n]+`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert re.findall(r"\[[^\[\]]+\]\s?\[[^\[\]\n]+\]", text) == []


def test_the_trainings_of_the_workflow_are_recipes() -> None:
    """The workflow has never run: what can be checked here is that its settings exist, and that no command is to fail."""
    workflow = (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    commands = [shlex.split(line) for line in re.findall(r"run: ldm (.*)", workflow)]
    assert [words[0] for words in commands] == ["train", "sample"], "ldm demo ends with code 1 after so short a training"
    recipe = load_recipe(commands[0][1], [word for word in commands[0][2:] if "=" in word])
    assert recipe.training.samples < 1000
