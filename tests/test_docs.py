"""The Python in docs/ runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PROGRAMS = {
    f"{page.stem}-{number}": text
    for page in sorted(DOCS.glob("*.md"))
    for number, text in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL))
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(PROGRAMS[name], name, "exec"), names)
    if name == "autoencoders-0":
        assert list(names["decoded"].shape) == [2, 5, 32, 32]  # type: ignore[attr-defined]
        assert names["update"].applied  # type: ignore[attr-defined]
