"""Arguments against the hints of a function: what is taken as what is meant, and what is refused in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from open_ldm.api.arguments import Place, fitted, several
from open_ldm.core.errors import ConfigError
from open_ldm.evaluation.features import FeatureConfig, RandomConfig

HOME = Path("homes", "me").absolute()


@pytest.fixture(autouse=True)
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(HOME))
    monkeypatch.setenv("USERPROFILE", str(HOME))


class Located:
    """Anything with a path."""

    def __fspath__(self) -> str:
        return "~/runs/a"


def taken(given: Any, hint: Any) -> Any:
    def call(one: Any) -> Any:
        return one

    call.__annotations__["one"] = hint
    return fitted(call, [given], {})[0][0]


@pytest.mark.parametrize(
    ("given", "hint", "meant"),
    [
        (np.int64(3), int, 3),
        (torch.tensor(3), int | Sequence[int], 3),
        (torch.tensor([3, 4]), int | Sequence[int], [3, 4]),
        (4.0, int, 4),
        (np.float32(0.5), float, 0.5),
        (3, float | None, 3),
        (10**400, int, 10**400),
        (np.True_, bool, True),
        (1, bool, True),
        (np.array(["a", "b"]), str | Sequence[str], ["a", "b"]),
        (("a", 1), str | int | Sequence[str | int], ["a", 1]),
        (range(3), Sequence[int], [0, 1, 2]),
        ("abc", str | Sequence[str], "abc"),
        ("~/x", Place, str(HOME / "x")),
        ("~nobody-of-that-name/x", Place, "~nobody-of-that-name/x"),
        ("s3://bucket/a", Place, "s3://bucket/a"),
        (Path("~/x"), Place | None, HOME / "x"),
        (Located(), Place, HOME / "runs" / "a"),
        (["~/x", {"kind": "random"}], Sequence[Place | Mapping[str, Any]], [str(HOME / "x"), {"kind": "random"}]),
        ({"a": 1}, str | Mapping[str, Any], {"a": 1}),
        (RandomConfig(), Place | FeatureConfig, RandomConfig()),
        ("cpu", Literal["auto", "cpu"], "cpu"),
        ("", str, ""),
        (None, Place | None, None),
    ],
)
def test_what_means_the_same_is_taken(given: Any, hint: Any, meant: Any) -> None:
    found = taken(given, hint)
    assert found == meant and type(found) is type(meant)


@pytest.mark.parametrize(
    ("given", "hint", "said"),
    [
        ("2", int | None, "one='2' cannot be used; needed: a whole number or None"),
        (2.5, int, "one=2.5 cannot be used; needed: a whole number"),
        (float("inf"), int, "one=inf cannot be used; needed: a whole number"),
        (True, int, "one=True cannot be used; needed: a whole number"),
        (True, float, "one=True cannot be used; needed: a number"),
        (2, bool, "one=2 cannot be used; needed: True or False"),
        ("1", int | Sequence[int], "one='1' cannot be used; needed: a whole number or a list"),
        ([1, "b"], int | Sequence[int], "one=[1, 'b'] cannot be used; needed: a whole number or a list"),
        (b"ab", str | Sequence[int], "one=b'ab' cannot be used; needed: text or a list"),
        (None, Place, "one=None cannot be used; needed: text or a path"),
        ("", Place, "one='' is empty; needed: a path or a name; fix: leave it out, or name one"),
        ([" "], Place | Sequence[Place], "one=' ' is empty; needed: a path or a name; fix: leave it out, or name one"),
        (None, Literal["auto", "cpu"], "one=None cannot be used; needed: auto or cpu"),
        ("gpu", Literal["auto", "cpu"], "one 'gpu' is unknown; needed: one of auto, cpu (did you mean 'cpu'?)"),
        (["a=1"], Mapping[str, str] | None, "one=['a=1'] cannot be used; needed: a mapping or None"),
        (3, Place | FeatureConfig, "one=3 cannot be used; needed: text, a path or a config"),
        (torch.zeros(2, 2), float, "one=tensor([[0., 0.], [0., 0.]]) cannot be used; needed: a number"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(given: Any, hint: Any, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        taken(given, hint)
    assert str(caught.value) == said


def test_every_argument_is_looked_at_but_those_of_any_name() -> None:
    def call(first: str, *rest: str, last: int = 0, **named: int) -> None:
        """Take all kinds of arguments."""

    assert fitted(call, ["a", "b"], {"last": 2.0, "more": "x"}) == (["a", "b"], {"last": 2, "more": "x"})
    with pytest.raises(ConfigError, match=r"rest=3 cannot be used; needed: text$"):
        fitted(call, ["a", "b", 3], {})
    with pytest.raises(ConfigError, match=r"fix: give its items one after the other, with \* before the list"):
        fitted(call, ["a", ["b", "c"]], {})
    assert fitted(call, [], {"last": "x"}) == ([], {"last": "x"}), "Python itself tells what is missing"


def test_one_or_several() -> None:
    assert (several(None), several("ab"), several(("a", "b")), several({"a": 1})) == ([], ["ab"], ["a", "b"], [{"a": 1}])
