from __future__ import annotations

from open_ldm.pages.markup import Markup, element, joined


def test_text_and_attributes_are_escaped_and_markup_is_not() -> None:
    hostile = "<b>&\"'"
    assert element("p", hostile, title=hostile) == ('<p title="&lt;b&gt;&amp;&quot;&#x27;">&lt;b&gt;&amp;&quot;&#x27;</p>')
    assert element("p", element("b", "x")) == "<p><b>x</b></p>"
    assert joined(["<", Markup("<br/>")]) == "&lt;<br/>"
    assert element("line", x1=1.0, x2=0.126, stroke_width=2, class_="a", id=None) == (
        '<line x1="1" x2="0.13" stroke-width="2" class="a"/>'
    )
