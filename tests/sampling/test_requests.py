from __future__ import annotations

import pytest

from open_ldm.controls import ViewShape
from open_ldm.core.errors import ConfigError
from open_ldm.model.spec import DataFacts
from open_ldm.sampling.requests import class_at, label_of

FACTS = DataFacts(channels=3, view=ViewShape(8, 8, 8), class_names=("ant", "bee", "cat", "dog"))


def test_a_class_is_a_name_or_a_number() -> None:
    assert [label_of(name, FACTS) for name in ("cat", "2", "03")] == [2, 2, 3]


@pytest.mark.parametrize("name", ["²", "٢", "4", "-1", "2.0", "", "9" * 5000])
def test_anything_else_is_an_unknown_class(name: str) -> None:
    with pytest.raises(ConfigError, match="knows no class"):
        label_of(name, FACTS)


NUMBERED = DataFacts(channels=3, view=ViewShape(8, 8, 8), class_names=("1", "10", "11", "2"))


def test_where_classes_are_called_by_numbers_a_number_is_a_name() -> None:
    assert [label_of(name, NUMBERED) for name in ("1", "10", "11", "2")] == [0, 1, 2, 3]
    with pytest.raises(ConfigError, match=r"knows no class '3'; .*fix: --class-index 3, for the class at that index"):
        label_of("3", NUMBERED)
    with pytest.raises(ConfigError) as caught:
        label_of("4", NUMBERED)
    assert "--class-index" not in str(caught.value)
    mixed = DataFacts(channels=3, view=ViewShape(8, 8, 8), class_names=("10", "cat", "dog"))
    with pytest.raises(ConfigError, match="--class-index 1"):
        label_of("1", mixed)


def test_an_index_always_means_the_place() -> None:
    assert [class_at(index, NUMBERED) for index in range(4)] == ["1", "10", "11", "2"]
    for index in (4, -1):
        with pytest.raises(ConfigError, match="0 to 3"):
            class_at(index, NUMBERED)
