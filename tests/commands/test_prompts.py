from __future__ import annotations

from pathlib import Path

import pytest

from open_ldm.commands.prompts import read_prompts, sweep_of
from open_ldm.core.errors import ConfigError
from open_ldm.text import Vocabulary, WordsEncoder

ENCODER = WordsEncoder(Vocabulary(("a", "blue", "circle", "red")), 4)


def test_prompts_are_lines_without_comments_and_blanks(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes("\ufeff# two of them\n\n  a red circle  \r\na blue circle\n   # done\n".encode())
    assert read_prompts(path, ENCODER) == ["a red circle", "a blue circle"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a red circle\n\na green circle\n", "line 3: prompt 'a green circle': the model never saw green"),
        (b"a red circle\n\xff\xfe\n", "line 2 is not UTF-8"),
        (b"# nothing\n", "contains no prompt"),
        (None, "No such file"),
    ],
)
def test_what_cannot_be_said_is_answered_with_its_line(content: bytes | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_prompts(path, ENCODER)
    assert said in caught.value.one_line() and "\n" not in caught.value.one_line()


def test_a_sweep_is_a_table_of_all_choices() -> None:
    sweep = sweep_of("a {red, blue} {circle,square,cross} there")
    assert sweep.rows == ("red", "blue")
    assert sweep.columns == ("circle", "square", "cross")
    assert sweep.captions[:4] == ("a red circle there", "a red square there", "a red cross there", "a blue circle there")
    assert len(sweep.captions) == 6
    three = sweep_of("{a,one} {red,blue} {circle,cross}")
    assert three.rows == ("a / red", "a / blue", "one / red", "one / blue")
    assert three.captions[-1] == "one blue cross"
    one = sweep_of("a {,large} circle")
    assert (one.rows, one.columns, one.captions) == (("",), ("", "large"), ("a circle", "a large circle"))


@pytest.mark.parametrize(
    "template", ["a red circle", "a {red,blue", "a {red} circle", "a {red,red} circle", "a {x,{y,z}} b", "{}"]
)
def test_a_sweep_without_choices_is_refused(template: str) -> None:
    with pytest.raises(ConfigError, match="--sweep"):
        sweep_of(template)


def test_a_sweep_of_very_many_pictures_needs_a_yes() -> None:
    template = "a " + " ".join(["{red,blue}"] * 9) + " circle"
    assert len(sweep_of(template).captions) == 512
    with pytest.raises(ConfigError, match=r"makes 1,024 pictures; needed: at most 1,000; fix: --yes"):
        sweep_of(template, pictures_each=2)
    assert len(sweep_of(template, pictures_each=2, yes=True).captions) == 512
