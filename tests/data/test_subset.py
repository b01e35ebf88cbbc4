from __future__ import annotations

import pytest

from open_ldm.data.sources.shapes import ShapesConfig
from open_ldm.data.subset import Subset
from open_ldm.data.survey import survey


def test_a_part_is_a_data_set_of_its_own() -> None:
    whole = ShapesConfig(length=50).open()
    part = Subset(whole, [40, 3, 7])
    assert len(part) == 3
    assert [part.sample_id(i) for i in range(3)] == ["shapes/000040", "shapes/000003", "shapes/000007"]
    assert (part[1].pixels == whole[3].pixels).all()
    assert part.size_of(2) == whole.size_of(7)
    assert part.label_of(0) == whole.label_of(40) == part[0].label
    assert part.class_names == whole.class_names
    assert part.summary.sentence().startswith("3 pictures, 24 classes, captions (part of ")
    assert sum(survey(part).class_counts.values()) == 3
    for index in (3, -1):
        with pytest.raises(IndexError):
            part[index]


def test_fingerprints_tell_parts_apart() -> None:
    whole = ShapesConfig(length=50).open()
    prints = [Subset(whole, indices).fingerprint for indices in ([1, 2], [2, 1], [1, 2, 3])]
    assert len({*prints, whole.fingerprint}) == 4
    assert Subset(whole, [1, 2]).fingerprint == prints[0]
    assert Subset(ShapesConfig(length=50, seed=1).open(), [1, 2]).fingerprint != prints[0]
