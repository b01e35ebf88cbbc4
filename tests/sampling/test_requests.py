from __future__ import annotations

import pytest

from open_ldm.controls import ViewShape
from open_ldm.core.errors import ConfigError
from open_ldm.model.spec import DataFacts
from open_ldm.sampling.requests import label_of

FACTS = DataFacts(channels=3, view=ViewShape(8, 8, 8), class_names=("ant", "bee", "cat", "dog"))


def test_a_class_is_a_name_or_a_number() -> None:
    assert [label_of(name, FACTS) for name in ("cat", "2", "03")] == [2, 2, 3]


@pytest.mark.parametrize("name", ["²", "٢", "4", "-1", "2.0", "", "9" * 5000])
def test_anything_else_is_an_unknown_class(name: str) -> None:
    with pytest.raises(ConfigError, match="knows no class"):
        label_of(name, FACTS)
