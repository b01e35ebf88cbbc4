"""Prompts from a file, and one prompt in many variants: `a {red,blue} {circle,square}`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from open_ldm.core.errors import ConfigError, cut
from open_ldm.text import TextEncoder

_CHOICE = re.compile(r"\{([^{}]*)\}")


def read_prompts(path: Path, encoder: TextEncoder) -> list[str]:
    """Read the prompts of a UTF-8 file, one a line; blank lines and lines starting with # are left out.

    Raises ConfigError, naming the line, for a prompt with words that the encoder does not know, and for a file that cannot
    be read or holds no prompt.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise ConfigError(f"--prompts {path}: {error.strerror}", needed="a text file with one prompt a line") from error
    prompts = []
    for number, line in enumerate(lines, start=1):
        try:
            prompt = line.decode("utf-8-sig").strip()
            if prompt and not prompt.startswith("#"):
                encoder.check_prompt(prompt)
                prompts.append(prompt)
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path} line {number} is not UTF-8 text", fix="save the file as UTF-8") from error
        except ConfigError as error:
            raise ConfigError(f"{path} line {number}: {error.problem}", needed=error.needed, fix=error.fix) from error
    if not prompts:
        raise ConfigError(f"--prompts {path} contains no prompt", needed="one prompt a line; # starts a comment")
    return prompts


@dataclass(frozen=True)
class Sweep:
    """Variants of one prompt as a table. `captions`: row by row; `rows` and `columns`: what each row and column chose."""

    captions: tuple[str, ...]
    rows: tuple[str, ...]
    columns: tuple[str, ...]


MOST_PICTURES = 1000
"""Of a sweep that nobody has said yes to: ten choices of two are more."""


def sweep_of(template: str, pictures_each: int = 1, *, yes: bool = False) -> Sweep:
    """Build every way to choose one word of each {a,b,c}: the last choice runs along a row, those before it down the rows.

    Args:
        template: The prompt.
        pictures_each: How many pictures are sampled of each variant.
        yes: Also of more than `MOST_PICTURES` in all.

    Raises:
        ConfigError: There is nothing to choose, a brace is left open, or the pictures are too many.
    """
    choices = [[option.strip() for option in found.split(",")] for found in _CHOICE.findall(template)]
    around = [re.sub(r"\s+", " ", part) for part in _CHOICE.split(template)[::2]]
    if not choices or any("{" in part or "}" in part for part in around):
        raise ConfigError(
            f"--sweep {cut(template)!r} cannot be read", needed="choices in braces, as in 'a {red,blue} {circle,square}'"
        )
    if lonely := next((found for found in choices if len(set(found)) < len(found) or len(found) < 2), None):
        raise ConfigError(
            f"--sweep {cut(template)!r}: {{{cut(','.join(lonely))}}} offers no choice", needed="two or more different words"
        )
    if (count := math.prod(map(len, choices)) * pictures_each) > MOST_PICTURES and not yes:
        raise ConfigError(
            f"--sweep {cut(template)!r} makes {count:,} pictures",
            needed=f"at most {MOST_PICTURES:,}",
            fix="--yes samples them all",
        )
    down = list(product(*choices[:-1]))
    captions = tuple(_filled(around, (*row, last)) for row in down for last in choices[-1])
    return Sweep(captions, tuple(" / ".join(row) for row in down), tuple(choices[-1]))


def _filled(around: list[str], chosen: tuple[str, ...]) -> str:
    parts = [part for pair in zip(around, (*chosen, ""), strict=True) for part in pair]
    return " ".join("".join(parts).split())
