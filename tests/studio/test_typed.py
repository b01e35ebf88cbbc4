"""Values in one text field: what a page writes into it is read back, whatever the words of a column are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from open_ldm.core.errors import ConfigError
from open_ldm.studio import widgets
from open_ldm.studio.limits import LIMITS
from open_ldm.studio.pages import controls_page, denoise_page
from open_ldm.studio.typed import typed, values_in

STAINS = ("Masson trichrome", "HE", "Jones' 5\"", "a\\b c", "#1", "")
FACTS: Any = SimpleNamespace(name="a", semantic="none")


@pytest.fixture(autouse=True)
def own_widgets(monkeypatch: pytest.MonkeyPatch) -> None:
    found = tuple(
        widgets.Widget(name, (), STAINS[:2][::order], lambda values: None) for name, order in (("stain", -1), ("a stain", 1))
    )
    for page in (controls_page, denoise_page):
        monkeypatch.setattr(page, "widgets_of", lambda facts: found)


@pytest.mark.parametrize("values", [STAINS, ("96x96", "0,3"), ("x\u00a0y", "caf\u00e9"), ("\\", '"'), ()])
def test_what_is_written_is_read_back(values: tuple[str, ...]) -> None:
    assert values_in(typed(values)) == list(values)


def test_values_without_blanks_are_written_and_read_as_ever() -> None:
    assert typed(["8x8", "0,3", "4:3", "O'Brien"]) == "8x8 0,3 4:3 O'Brien"
    assert values_in("  8x8\t0,3\n4:3 O'Brien ") == ["8x8", "0,3", "4:3", "O'Brien"]


@pytest.mark.parametrize("text", ['HE "Masson trichrome', "HE \\", "x" * (LIMITS.text + 1)])
def test_what_cannot_be_read_is_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match="needed: "):
        values_in(text)


def test_the_prefilled_values_can_be_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    swept: list[Any] = []
    monkeypatch.setattr(controls_page, "sweep", lambda *given: swept.append(given[3:5]))

    class Studio:
        playable, models, gr = (FACTS,), None, SimpleNamespace(skip=lambda: None)

        async def run(self, work: Any, *_: Any) -> AsyncIterator[Any]:
            yield work(None)

    async def said(values: str) -> list[Any]:
        return [one async for one in controls_page._sweeping(Studio())(["a"], "", "a stain", 0, values)]  # type: ignore[arg-type]

    usual = controls_page.usual_values([FACTS])["a stain"]
    asyncio.run(said(controls_page.typed(usual)))
    assert swept == [("a stain", ["Masson trichrome", "HE"])]
    assert "a quote" in str(asyncio.run(said('"HE')))


def test_the_hint_for_denoising_can_be_typed() -> None:
    _, _, pairs = denoise_page.controls_hint(FACTS).partition("such as ")
    assert pairs == '"stain=Masson trichrome" "a stain=HE"'
    assert denoise_page.controls_in(pairs) == {"stain": "Masson trichrome", "a stain": "HE"}
    assert denoise_page.controls_in('stain="Masson trichrome" flip=') == {"stain": "Masson trichrome", "flip": ""}
    with pytest.raises(ConfigError, match=r"stain is given twice; needed: each control once"):
        denoise_page.controls_in("stain=HE stain=PAS")
