from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from open_ldm.core.errors import DataError
from open_ldm.data.health import Health
from open_ldm.data.sample import BadSample
from open_ldm.data.survey import survey
from open_ldm.sources.folder import FolderConfig
from open_ldm.sources.shapes import ShapesConfig


def bad(*names: str, reason: str = "not a picture") -> list[BadSample]:
    return [BadSample(name, reason) for name in names]


def test_distinct_samples_are_counted_once() -> None:
    health = Health(1204)
    assert health.add(bad("a", "b")) == tuple(bad("a", "b"))
    assert health.add(bad("b", "a")) == ()
    assert health.add(bad("c", reason="empty file")) == tuple(bad("c", reason="empty file"))
    assert health.bad == 3
    assert health.ids_by_reason == {"not a picture": ("a", "b"), "empty file": ("c",)}
    assert health.sentence() == "3 of 1,204 pictures are bad: not a picture 2 (a, b), empty file 1 (c)"
    assert Health(5).sentence() == "0 of 5 pictures found bad"
    one = Health(12)
    one.add(bad("a", reason="empty file"))
    assert one.sentence() == "1 of 12 pictures is bad: empty file 1 (a)"


def test_one_percent_is_the_limit() -> None:
    health = Health(300)
    health.add(bad("a", "b", "c"))
    health.check()
    health.add(bad("a", reason="empty file"))
    health.check()
    health.add(bad("d"))
    with pytest.raises(DataError, match=r"4 of 300 pictures are bad.*at most 1% bad samples") as raised:
        health.check()
    assert raised.value.exit_code == 65


def test_a_tally_is_plain_data() -> None:
    health = Health(300)
    health.add(bad("a", "b"))
    assert json.loads(json.dumps(health.to_json())) == health.to_json()
    assert health.to_json()["bad"] == {"not a picture": ["a", "b"]}


def test_survey_of_shapes() -> None:
    found = survey(ShapesConfig(length=5000).open(), limit=1000)
    assert (found.pictures, found.examined, found.bad) == (5000, 1000, ())
    assert found.sentence.startswith("5,000 pictures, 24 classes, captions")
    assert 20 <= found.short_side_px.smallest <= 22
    # The short side is log-uniform in 20..160: its median is the geometric mean of the ends.
    assert found.short_side_px.median == pytest.approx(56.6, rel=0.12)
    assert 150 <= found.short_side_px.largest <= 160
    assert 0.7 < found.aspect_ratio.smallest < 0.78
    assert 1.28 < found.aspect_ratio.largest < 1.4
    assert found.aspect_ratio.median == 1
    assert sum(found.class_counts.values()) == 1000
    assert sum(count > 0 for count in found.class_counts.values()) == 20
    assert len(set(found.example_captions)) == 8
    assert json.loads(json.dumps(found.to_json()))["short_side_px"]["median"] == found.short_side_px.median


def test_survey_reads_headers_only_and_lists_bad_ones(tmp_path: Path, encode: Callable[..., bytes]) -> None:
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(encode()[:200])
    (tmp_path / "4.png").write_bytes(b"text")
    found = survey(FolderConfig(path=tmp_path).open())
    assert (found.height_px.median, found.width_px.median, found.aspect_ratio.median) == (
        24,
        32,
        pytest.approx(4 / 3, abs=1e-3),
    )
    assert [(sample.id, sample.reason) for sample in found.bad] == [("4.png", "not a picture")]
    assert found.class_counts == {}
    assert found.example_captions == ()


def test_survey_of_nothing_readable(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"text")
    with pytest.raises(DataError, match=r"none of 1 samples can be read, the first one: a.png \(not a picture\)"):
        survey(FolderConfig(path=tmp_path).open())
