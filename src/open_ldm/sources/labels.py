"""Turning labels as users write them (numbers or names, in metadata, folders or shards) into indices of class names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from open_ldm.core.errors import DataError
from open_ldm.core.plain_data import parse_json
from open_ldm.data.health import BUDGET_SHARE
from open_ldm.data.sample import printable

BAD_LABEL = "missing or unusable label"
NO_LABEL = -1
_MOST_CLASSES = 100_000
"""A larger number counts as a mistake, not as a class."""
_MOST_GAP = 10
_NAMED = 5
CLASSES = "classes.json"


@dataclass(frozen=True)
class Labels:
    """One index per sample (NO_LABEL where it has no usable label), and the names of the classes.

    `class_names` is empty when no sample has a label, or when `said` begins with why the existing labels cannot be used.
    Otherwise a sample without a label is bad. `said` also names the classes, or numbers, that no sample has.
    """

    indices: tuple[int, ...]
    class_names: tuple[str, ...]
    said: str = ""


def resolve_labels(given: Sequence[int | str | None], names: Sequence[str] | None, where: str) -> Labels:
    """Turn labels as given (all numbers or all names) into indices.

    Numbers are indices; without `names` the classes are called '0', '1', ... Names are looked up in `names`, or sorted. A label
    is unusable when it is missing while others exist, when it is negative, or when it is not in `names`. When more than 1 % are
    unusable, all labels are ignored, since a run without classes does not need them.

    Args:
        given: The label of each sample.
        names: The class names of a `classes.json`, if there is one.
        where: Where the labels come from, for error messages.

    Raises:
        DataError: Some labels are numbers and others are names; or the largest number, without `names`, is over ten times the
            number of distinct ones, so that one wrong number would make thousands of classes.
    """
    classes = resolve_classes(Counter(given), names, where)
    return Labels(tuple(classes.index_of[label] for label in given), classes.names, classes.said)


@dataclass(frozen=True)
class Classes:
    """The index of each label that occurs, NO_LABEL for one that cannot be used; names and `said` as in `Labels`."""

    index_of: Mapping[int | str | None, int]
    names: tuple[str, ...]
    said: str = ""


def resolve_classes(counts: Mapping[int | str | None, int], names: Sequence[str] | None, where: str) -> Classes:
    """Do the same as `resolve_labels` from the labels that occur, in the order in which they first do, and how often each does.

    Args:
        counts: Number of samples of each label.
        names: As there.
        where: As there.

    Raises:
        DataError: As there.
    """
    spelled = {label: printable(label) if isinstance(label, str) else label for label in counts}
    given = list(spelled.values())
    numbers = [label for label in given if isinstance(label, int)]
    words = [label for label in given if isinstance(label, str)]
    if not numbers and not words:
        return Classes(dict.fromkeys(counts, NO_LABEL), ())
    if numbers and words:
        raise DataError(
            f"{where} mixes labels that are numbers ({numbers[0]}) and names ({words[0]!r})", needed="only one of the two"
        )
    said, stated = "", names is not None
    if names is None:
        used = sorted({number for number in numbers if 0 <= number < _MOST_CLASSES})
        largest = used[-1] if used else -1
        said = _gap(used, where)
        names = sorted(set(words)) if words else [str(number) for number in range(largest + 1)]
    index_by_name = {name: index for index, name in enumerate(names)}
    index_of = {}
    for label, spelling in spelled.items():
        index = index_by_name.get(spelling, NO_LABEL) if isinstance(spelling, str) else spelling
        index_of[label] = index if index is not None and 0 <= index < len(names) else NO_LABEL
    unusable = [label for label, index in index_of.items() if index == NO_LABEL]
    lost, samples = sum(counts[label] for label in unusable), sum(counts.values())
    if lost > BUDGET_SHARE * samples:
        spellings = (spelled[label] for label in unusable if label is not None)
        wrong = next((f", {label!r:.60} is none of the {len(names)} classes" for label in spellings), "")
        return Classes(dict.fromkeys(counts, NO_LABEL), (), f"labels on {samples - lost:,} of {samples:,} ignored{wrong}")
    if stated:
        present = set(index_of.values())
        said = _without_pictures([name for index, name in enumerate(names) if index not in present])
    return Classes(index_of, tuple(names), said)


def _gap(used: Sequence[int], where: str) -> str:
    """Name the numbers below the largest label that no sample has; '' when there are none. Raises DataError as above."""
    if not used or used[-1] + 1 == len(used):
        return ""
    if used[-1] > _MOST_GAP * len(used):
        before = f"{used[-2]:,}" if len(used) > 1 else "nothing"
        raise DataError(
            f"{where}: labels are {len(used):,} distinct numbers and the largest is {used[-1]:,}, after {before}",
            needed="labels without such a gap, which would be classes without pictures",
            fix="correct the label, number the classes from 0, or name them in classes.json",
        )
    present = set(used)
    return _without_pictures([str(number) for number in range(used[-1]) if number not in present])


def _without_pictures(classes: Sequence[str]) -> str:
    more = f" and {len(classes) - _NAMED:,} more" if len(classes) > _NAMED else ""
    return f"no picture of class {', '.join(classes[:_NAMED])}{more}" if classes else ""


def read_class_names(folder: Path) -> tuple[str, ...] | None:
    """Read the names in `folder`/classes.json; None when there is no such file. Raises DataError when it is not such a list."""
    path = folder / CLASSES
    if not path.is_file():
        return None
    try:
        names = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path} is not a list of class names", needed='for example ["cat", "dog"]')
    names = [printable(name) for name in names]
    if len(set(names)) != len(names):
        raise DataError(f"{path} names a class twice", needed="distinct names")
    return tuple(names)
