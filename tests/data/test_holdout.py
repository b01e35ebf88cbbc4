from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, Literal

import pytest

from open_ldm.core.errors import ConfigError, DataError
from open_ldm.data.holdout import HoldoutConfig, hold_out, select_part
from open_ldm.data.survey import survey
from open_ldm.sources.folder import FolderConfig
from open_ldm.sources.loader import DataConfig, open_data, read_batches
from open_ldm.sources.shapes import ShapesConfig, ShapesSource
from tests.data.conftest import make_bytes, make_tar


def config(source: dict[str, Any], **holdout: Any) -> DataConfig:
    content: dict[str, Any] = {"source": source, "transform": {"size_px": 8}}
    return DataConfig.model_validate(content | ({"holdout": holdout} if holdout else {}))


def folder(root: Path, names: range) -> dict[str, Any]:
    """Pictures in two class folders, every third one with a caption."""
    picture = make_bytes()
    for number in names:
        path = root / ("ab"[number % 2]) / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture)
        if number % 3 == 0:
            path.with_suffix(".txt").write_text(f"picture {number}\nnumber {number}")
    return {"kind": "folder", "path": root}


def shards(root: Path) -> dict[str, Any]:
    members = [(f"{number}.{end}", content) for number in range(60) for end, content in _member(number)]
    make_tar(root / "train-0.tar", members)
    return {"kind": "shards", "path": str(root / "train-0.tar")}


def _member(number: int) -> list[tuple[str, bytes]]:
    return [("png", make_bytes()), ("txt", f"picture {number}".encode())]


SOURCES = ["folder", "shards", "shapes"]


def source_of(kind: str, root: Path) -> dict[str, Any]:
    match kind:
        case "folder":
            return folder(root, range(120))
        case "shards":
            return shards(root)
        case _:
            return {"kind": "shapes", "length": 200}


@pytest.mark.parametrize("kind", SOURCES)
def test_two_parts_make_the_whole(kind: str, tmp_path: Path) -> None:
    described = source_of(kind, tmp_path)
    whole = open_data(config(described))
    held_out = open_data(config(described, share=0.25), "held_out")
    train = open_data(config(described, share=0.25))
    ids = {name: [part.sample_id(i) for i in range(len(part))] for name, part in (("train", train), ("held_out", held_out))}
    assert sorted(ids["train"] + ids["held_out"]) == sorted(whole.sample_id(i) for i in range(len(whole)))
    assert not set(ids["train"]) & set(ids["held_out"])
    assert 0.12 < len(held_out) / len(whole) < 0.4
    assert len({whole.fingerprint, train.fingerprint, held_out.fingerprint}) == 3
    for index, name in enumerate(ids["held_out"][:5]):
        sample = held_out[index]
        assert sample.id == name
        assert held_out.captions_of(index) == sample.captions
        assert held_out.label_of(index) == sample.label  # type: ignore[attr-defined]
        assert held_out.size_of(index) == (sample.original_height_px, sample.original_width_px)
    captions = [caption for index in range(len(held_out)) for caption in held_out[index].captions]
    assert held_out.captions() == captions
    assert held_out.summary.pictures == len(held_out)
    assert held_out.summary.captioned == sum(bool(held_out[index].captions) for index in range(len(held_out)))
    assert held_out.class_names == whole.class_names
    assert survey(held_out).pictures == len(held_out)
    assert len(pickle.loads(pickle.dumps(held_out))) == len(held_out)


def test_captions_of_a_part_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    part = open_data(config({"kind": "shapes", "length": 60}, share=0.5))
    read, really = [], ShapesSource.captions_of
    monkeypatch.setattr(ShapesSource, "captions_of", lambda self, index: read.append(index) or really(self, index))
    first = part.captions()
    first.append("a caption of one's own")
    assert part.captions() == first[:-1] and len(read) == len(part) == len(first) - 1
    monkeypatch.setattr("open_ldm.data.holdout._CAPTIONS_KEPT", 5)
    assert part.captions() == first[:-1] and len(read) == 2 * len(part)
    assert pickle.loads(pickle.dumps(part)).captions() == first[:-1]


def test_training_meets_every_sample_of_its_part_and_no_other(tmp_path: Path) -> None:
    described = config(folder(tmp_path, range(40)), share=0.3)
    train, held_out = open_data(described), open_data(described, "held_out")
    batches = read_batches(train, described.transform, seed=3, position_ranges=[range(2 * len(train))], workers=0)
    seen = set(next(batches).ids)
    assert seen == {train.sample_id(index) for index in range(len(train))}
    assert not seen & {held_out.sample_id(index) for index in range(len(held_out))}


def test_a_sample_stays_on_its_side_when_others_come(tmp_path: Path) -> None:
    few = open_data(config(folder(tmp_path, range(60)), share=0.25), "held_out")
    before = {few.sample_id(index) for index in range(len(few))}
    more = open_data(config(folder(tmp_path, range(60, 120)), share=0.25), "held_out")
    after = {more.sample_id(index) for index in range(len(more))}
    assert before < after and all(int(name[2:5]) >= 60 for name in after - before)
    other = open_data(config(folder(tmp_path, range(0)), share=0.25, seed=1), "held_out")
    assert {other.sample_id(index) for index in range(len(other))} != after


def test_asking_for_what_is_not_held_out_is_refused(tmp_path: Path) -> None:
    described = folder(tmp_path, range(4))
    with pytest.raises(ConfigError, match=r"no part of this data is held out.*data\.holdout"):
        open_data(config(described), "held_out")
    with pytest.raises(DataError, match="leaves none in the part held_out"):
        open_data(config(described, share=1e-9), "held_out")


def ids(source: object) -> list[str]:
    return [source.sample_id(index) for index in range(len(source))]  # type: ignore[attr-defined, arg-type]


@pytest.mark.parametrize("count", [1, 7, 25])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_sample_is_in_one_part(count: int, seed: int) -> None:
    source = ShapesConfig(length=50).open()
    parts = hold_out(source, count, seed)
    assert len(parts.held_out) == count
    assert len(parts.training) == 50 - count
    assert sorted(ids(parts.held_out) + ids(parts.training)) == sorted(ids(source))
    assert ids(parts.training) == [name for name in ids(source) if name not in set(ids(parts.held_out))]


def test_a_part_reads_the_samples_it_names() -> None:
    parts = hold_out(ShapesConfig(length=20).open(), 5, seed=3)
    for part in (parts.training, parts.held_out):
        assert [part[index].id for index in range(len(part))] == ids(part)
        assert part.size_of(1) == (part[1].original_height_px, part[1].original_width_px)
        assert part.summary.pictures == len(part)


def test_the_draw_follows_from_the_seed() -> None:
    source = ShapesConfig(length=200).open()
    drawn = [ids(hold_out(source, 10, seed).held_out) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    one, other = hold_out(source, 10, 0), hold_out(source, 11, 0)
    assert len({source.fingerprint, one.training.fingerprint, one.held_out.fingerprint, other.training.fingerprint}) == 4


def test_more_than_half_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"held_out.pictures=11 of 20 pictures; needed: at most half"):
        hold_out(ShapesConfig(length=20).open(), 11, 0)


def test_a_single_group_is_said_by_the_survey_and_refused_by_the_parts(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(make_bytes())
    rows = "".join(f"{number}.png,S1,{number % 2}\n" for number in range(4))
    (tmp_path / "metadata.csv").write_text(f"file_name,slide,film\n{rows}")
    source = FolderConfig(path=tmp_path).open()
    found = survey(source, holdout=HoldoutConfig(share=0.2, by="slide"))
    (problem,) = found.problems()
    assert problem.startswith("slide has 1 group, and none is left") and "data.holdout.by" in problem
    name: Literal["train", "held_out"] = "train" if "to train on" in problem else "held_out"
    with pytest.raises(DataError, match="a column of more values"):
        select_part(source, HoldoutConfig(share=0.2, by="slide"), name)
