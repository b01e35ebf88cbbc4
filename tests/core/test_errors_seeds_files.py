from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from open_ldm.core import seeds
from open_ldm.core.errors import DataError, DiskError, OpenLdmError, cut, nearest, shortened
from open_ldm.core.files import hash_file, write_bytes, write_json


def test_an_error_is_one_line_with_what_is_needed_and_the_fix() -> None:
    error = DataError("no\npictures", needed="at least 1", fix="check the path")
    assert str(error) == "no pictures; needed: at least 1; fix: check the path"
    assert isinstance(error, OpenLdmError)
    assert error.exit_code == 65


def test_the_nearest_name_is_offered() -> None:
    assert nearest("pixrat", ["dit", "pixart"]) == "one of dit, pixart (did you mean 'pixart'?)"
    assert nearest("zzz", ["dit", "unet"]) == "one of dit, unet"
    assert nearest("zzz", ["dit"]) == "dit"
    many = [f"name-{number}" for number in range(1000)]
    assert len(nearest("name-0", many)) < 220 and nearest("zzz", many).startswith("one of name-0, name-1, ")
    assert nearest("name-1x", many, listed_by="ldm names") == "one that `ldm names` lists (did you mean 'name-1'?)"
    assert shortened([str(n) for n in range(30)], 3) == "0, 1, 2, ... (27 more)"


def test_a_draw_depends_on_seed_purpose_and_position_alone() -> None:
    whole = seeds.normal(1, "noise", [3, 4, 5], (2, 7))
    assert torch.equal(seeds.normal(1, "noise", [5], (2, 7))[0], whole[2])
    assert torch.equal(seeds.normal(1, "noise", [5, 3], (2, 7)), whole[[2, 0]])
    others = [seeds.key(2, "noise", 3), seeds.key(1, "time", 3), seeds.key(1, "noise", 4), seeds.key(1, "noise", 3)]
    assert len(set(others)) == 4
    assert seeds.key(1, "noise", 3) == seeds.key(1, "noise", 3) < 2**63


def test_draws_have_their_distribution_and_leave_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    normal = seeds.normal(0, "a", range(4000))
    uniform = seeds.uniform(0, "b", range(4000))
    assert torch.equal(torch.get_rng_state(), before)
    assert abs(float(normal.mean())) < 0.06
    assert float(normal.std()) == pytest.approx(1, abs=0.05)
    assert float(uniform.mean()) == pytest.approx(0.5, abs=0.03)
    assert 0 <= float(uniform.min()) < float(uniform.max()) < 1


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "deep" / "file.json"
    write_json(path, {"a": "é"})
    assert path.read_text(encoding="utf-8") == '{\n  "a": "é"\n}\n'

    def refuse(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(DiskError, match="disk full") as refused:
        write_bytes(path, b"half")
    assert refused.value.exit_code == 74
    assert path.read_text(encoding="utf-8").startswith("{")
    assert [entry.name for entry in path.parent.iterdir()] == ["file.json"]


def test_the_hash_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert hash_file(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_draws_of_a_step_are_its_samples_own_and_shared_ones_its_batch_s() -> None:
    device = torch.device("cpu")
    whole, part = seeds.Draws(3, (8, 9, 10, 11), 4, device), seeds.Draws(3, (10, 11), 4, device)
    assert torch.equal(whole.normal("noise", (5,))[2:], part.normal("noise", (5,)))
    assert torch.equal(whole.uniform("mask", (5,))[2:], part.uniform("mask", (5,)))
    assert whole.shared_uniform("share") == part.shared_uniform("share")
    assert whole.shared_uniform("share") != seeds.Draws(3, (12,), 4, device).shared_uniform("share")
    assert not torch.equal(whole.normal("noise", (5,)), whole.normal("other", (5,)))


def test_an_error_stays_short_and_keeps_what_is_needed_and_the_fix() -> None:
    long = "word" * 5000
    for given in (long, "some words " * 2000, f"path /{long}/a.png and /{long}/b.png", "x " * 150):
        said = DataError(given, needed="at least 1 picture", fix="check the path").one_line()
        assert len(said) < 300 and said.endswith("; needed: at least 1 picture; fix: check the path"), said
    said = DataError(f"{long} is no class", needed=nearest("a", [long, "b" * 400]), fix="f" * 500).one_line()
    assert len(said) < 300 and said.startswith("word") and "; needed: one of word" in said and "; fix: fff" in said
    assert cut("x" * 61) == "x" * 28 + " ... " + "x" * 27 and cut("x" * 60) == "x" * 60
    short = DataError(f"/{'a' * 80}/{'b' * 80}", fix="check the path").one_line()
    assert short == f"/{'a' * 80}/{'b' * 80}; fix: check the path"  # nothing is shortened where there is room


@pytest.mark.parametrize("given", ["word " * 100, f"there is no folder /{'a' * 90}/{'b' * 90}", "x" * 400])
def test_only_what_was_given_is_shortened(given: str) -> None:
    needed, fix = f"a folder of pictures; a relative path starts from /{'c' * 45}", f"copy /{'d' * 100} first"
    said = DataError(given, needed=needed, fix=fix).one_line()
    assert len(said) < 300 and said.endswith(f"; needed: {needed}; fix: {fix}") and " ... " in said
    assert len(said.split("; needed")[0]) >= 55
    long = "fix " * 50
    assert DataError("no pictures", fix=long).one_line() == f"no pictures; fix: {long.strip()}"
    assert len(DataError(given, needed="n" * 400, fix="f" * 400).one_line()) in range(290, 300)


def test_an_error_moves_no_cursor_and_names_the_nearest_of_many() -> None:
    said = str(DataError("key \x1b[2Jx\u202ey\x9b z\u200dw\n\tlast\udc80", needed="a\x07"))
    assert said == r"key \x1b[2Jx\u202ey\x9b z" + "\u200dw last" + r"\udc80; needed: a\x07"
    names = [f"class-{number:03d}" for number in range(500)]
    needed = nearest("class-012x", names)
    listed = needed.removeprefix("one of ").split(", ...")[0].split(", ")
    assert len(listed) == 5 and "class-012" in listed and needed.endswith("... (495 more) (did you mean 'class-012'?)"), needed
    assert nearest("class-1" + "2" * 100_000, names).count("class-") == 5
