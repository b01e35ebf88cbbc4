"""Every kind of page in a real browser, on a desk and on a phone: nothing is cut, nothing fails, nothing is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.browser import Browser, browser, find_chromium
from tests.pages.made import PAGES

DESK, PHONE = 1280, 390
OPEN_ALL = "document.querySelectorAll('details').forEach(one => one.open = true)"
MISTAKES = """(() => {
    const wide = document.documentElement.clientWidth, found = [];
    const say = (what, one) => found.push(`${what}: <${one.tagName} class="${one.getAttribute('class') || ''}"> `
        + one.textContent.trim().slice(0, 60));
    if (document.documentElement.scrollWidth > wide) found.push('the page scrolls sideways');
    for (const one of document.body.querySelectorAll('*')) {
        const box = one.getBoundingClientRect();
        if (!box.width || !box.height) continue;
        if (one.ownerSVGElement) {
            const whole = one.closest('figure > svg, figure > div > svg').getBoundingClientRect();
            const outside = box.left < whole.left - 1 || box.right > whole.right + 1
                || box.top < whole.top - 1 || box.bottom > whole.bottom + 1;
            if (one.tagName === 'text' && outside) say('text outside its figure', one);
            continue;
        }
        if (one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).overflowX !== 'visible') {
            if (!one.matches('.scroll, .strip')) say('cut', one);
            else if (one.tabIndex !== 0 || !one.getAttribute('aria-label')) say('no key reaches', one);
        }
        if (!one.parentElement.closest('.scroll, .strip')
            && (box.left < -0.5 || box.right > wide + 0.5)) say('over the edge', one);
    }
    return found;
})()"""

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = find_chromium()
    assert program is not None
    with browser(program, tmp_path_factory.mktemp("browser") / "profile") as opened:
        yield opened


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A page by its name, made when it is first asked for."""
    return cache(lambda name: PAGES[name](tmp_path_factory.mktemp(name)))


@pytest.fixture(params=PAGES)
def page(request: pytest.FixtureRequest, made: Callable[[str], Path]) -> Path:
    return made(request.param)


@pytest.mark.parametrize("width_px", [DESK, PHONE])
def test_a_page_is_whole_and_quiet(tab: Browser, page: Path, width_px: int) -> None:
    opened = tab.open(page, width_px)
    assert opened.errors == [] and opened.requests == []
    tab.evaluate(OPEN_ALL)
    assert tab.evaluate("document.documentElement.clientWidth") == width_px
    assert tab.evaluate(MISTAKES) == []


def test_links_of_the_contents_lead_to_their_sections(tab: Browser, page: Path) -> None:
    tab.open(page, DESK)
    pairs = tab.evaluate(
        "[...document.querySelectorAll('nav a')].map(one => [one.textContent, "
        "document.getElementById(one.hash.slice(1)).querySelector('h2').textContent])"
    )
    assert pairs and all(name == title for name, title in pairs)


@pytest.mark.parametrize("width_px", [DESK, PHONE])
def test_no_older_preview_is_larger_than_the_newest(tab: Browser, made: Callable[[str], Path], width_px: int) -> None:
    tab.open(made("run"), width_px)
    size = "[one.getBoundingClientRect().width, one.getBoundingClientRect().height]"
    newest = tab.evaluate(f"[document.querySelector('#samples-through-time img')].map(one => {size})[0]")
    older = tab.evaluate(f"[...document.querySelectorAll('.strip img')].map(one => {size})")
    assert len(older) == 11 and all(width < newest[0] and height < newest[1] for width, height in older)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_stands_out_from_the_page(tab: Browser, made: Callable[[str], Path], theme: str) -> None:
    """WCAG 2.2's contrast of 4.5 to 1 for body, notes, links and states."""
    tab.open(made("run"), DESK, theme="dark" if theme == "dark" else "light")
    colours = tab.evaluate(
        "['body', '.note', 'figcaption', 'dt', 'td a', '.state'].map(each => "
        "getComputedStyle(document.querySelector(each)).color.match(/[0-9]+/g).map(Number))"
    )
    ground = luminance(tab.evaluate("getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)"))
    assert (ground < 0.1) == (theme == "dark")
    for colour in colours:
        low, high = sorted((luminance(colour), ground))
        assert (high + 0.05) / (low + 0.05) >= 4.5


def luminance(colour: list[int]) -> float:
    """Relative luminance of sRGB 0..255 (WCAG 2.2)."""
    linear = [x / 12.92 if (x := value / 255) <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for value in colour[:3]]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_the_check_sees_what_is_wrong(tab: Browser, tmp_path: Path) -> None:
    page = tmp_path / "wrong.html"
    page.write_text(
        "<!doctype html><body><div style='width:500px'>wide</div>"
        "<div style='width:50px;overflow:hidden;white-space:nowrap'>much too long for that</div>"
        "<div class='scroll' style='overflow-x:auto'><div style='width:900px'>x</div></div>"
        "<figure><svg viewBox='0 0 100 20'><text x='90' y='15'>outside</text></svg></figure>"
        "<img src='http://127.0.0.1:9/picture.png'><script>console.error('said'); nothing.there()</script>"
    )
    opened = tab.open(page, PHONE)
    assert opened.requests == ["http://127.0.0.1:9/picture.png"]
    assert any("said" in error for error in opened.errors) and any("Uncaught" in error for error in opened.errors)
    found = "\n".join(tab.evaluate(MISTAKES))
    for mistake in ("the page scrolls sideways", "over the edge", "cut", "no key reaches", "text outside its figure"):
        assert mistake in found, mistake
