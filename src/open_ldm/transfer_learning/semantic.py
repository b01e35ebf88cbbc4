"""What two models' conditions have in common: classes, words and categories of the same names, features of one text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from open_ldm.conditioning.semantic import ClassSemantic, TextSemantic
from open_ldm.core.config import flattened
from open_ldm.model.spec import ModelSpec
from open_ldm.text import HuggingFaceConfig, TextEncoderConfig, WordsConfig

PREFIX, CONTROLS = "conditioning.semantic.", "conditioning.controls."
Matches = list[int | None]
"""For each row of a table here the row of the source that it continues, or None."""


def reason_for_new(source: ModelSpec, target: ModelSpec) -> str:
    """Say why nothing of the semantic condition can be carried over; empty where it can."""
    there, here = source.conditioning.semantic, target.conditioning.semantic
    if there.kind != here.kind:
        return f"semantic condition {there.kind} -> {here.kind}"
    if isinstance(there, ClassSemantic) and isinstance(here, ClassSemantic) and there.route != here.route:
        return f"route of the class {there.route} -> {here.route}"
    if isinstance(there, TextSemantic) and isinstance(here, TextSemantic) and not _same_features(source, target):
        return "another text encoder"
    return ""


def settings_that_differ(source: ModelSpec, target: ModelSpec) -> str:
    """Say which semantic settings are not equal, with their values; empty where all are."""
    there, here = (flattened(spec.conditioning.semantic.model_dump(mode="json")) for spec in (source, target))
    differing = [name for name in {**there, **here} if there.get(name) != here.get(name)]
    return ", ".join(f"{name} {there.get(name)} -> {here.get(name)}" for name in differing)


def context_of(spec: ModelSpec) -> str:
    """What a model's context tokens are, in a word; empty where there are none."""
    semantic = spec.conditioning.semantic
    if semantic.kind == "none" or semantic.route == "modulation":
        return ""
    return "classes" if isinstance(semantic, ClassSemantic) else semantic.encoder.kind


def same_context(source: ModelSpec, target: ModelSpec) -> bool:
    """Whether the context tokens of both models come from one space, so that the weights that read them keep their meaning."""
    if not context_of(source) or context_of(source) != context_of(target):
        return context_of(source) == context_of(target)
    return not isinstance(source.conditioning.semantic, TextSemantic) or _same_features(source, target)


def matches(name: str, source: ModelSpec, target: ModelSpec, classes: Literal["match", "new"]) -> tuple[Matches, str] | None:
    """Find the rows that a table of classes, words or categories shares with the source's.

    Args:
        name: Of the tensor.
        source: The model that is carried over.
        target: The new model.
        classes: Match the names of classes, or make all their vectors new.

    Returns:
        For each row here the row of the source or None, and what the rows stand for; None for any other tensor.
    """
    if name.startswith(CONTROLS):
        return _matched_categories(name.removeprefix(CONTROLS), source, target)
    match name.removeprefix(PREFIX):
        case "table.weight":
            there, here = source.facts.class_names, target.facts.class_names
            found = matched_names(there, here) if classes == "match" else [None] * len(here)
            return [*found, len(there)], "classes"  # the last row is 'no class'
        case "words.weight":
            known = {word: row + 2 for row, word in enumerate(source.facts.words)}
            return [0, 1, *(known.get(word) for word in target.facts.words)], "words"
        case "places" | "null_tokens":
            most = _length(source)
            return [position if position < most else None for position in range(_length(target))], "places"
    return None


def _matched_categories(name: str, source: ModelSpec, target: ModelSpec) -> tuple[Matches, str] | None:
    """Match the categories of a control's table, `KEY.table.weight`, by name; its last row is the null row."""
    key, _, rest = name.partition(".")
    read = next((control.columns_read for control in target.conditioning.controls if control.key == key), ())
    there, here = (spec.facts.view.column(read[0]) if read else None for spec in (source, target))
    if rest != "table.weight" or there is None or here is None:
        return None
    return [*matched_names(there.words, here.words), len(there.words)], f"values of {here.name}"


def matched_names(there: Sequence[str], here: Sequence[str]) -> Matches:
    """Match names.

    Args:
        there: Names of the source.
        here: Names of the new model.

    Returns:
        For each name here the index of the same name there; else of the only one that differs in the case of letters alone;
        else None.
    """
    exact = {name: index for index, name in enumerate(there)}
    folded: dict[str, list[int]] = {}
    for index, name in enumerate(there):
        if name not in here:
            folded.setdefault(name.casefold(), []).append(index)
    wanted = [name.casefold() for name in here if name not in exact]

    def found(name: str) -> int | None:
        """Return the index of a class by its name, or by its name in other letters where that is unambiguous."""
        if name in exact:
            return exact[name]
        alike = folded.get(name.casefold(), [])
        return alike[0] if len(alike) == 1 and wanted.count(name.casefold()) == 1 else None

    return [found(name) for name in here]


def _length(spec: ModelSpec) -> int:
    """Tokens of a caption; 0 for a model that reads none."""
    semantic = spec.conditioning.semantic
    return semantic.encoder.length if isinstance(semantic, TextSemantic) else 0


def _same_features(source: ModelSpec, target: ModelSpec) -> bool:
    """Whether both read vectors of one space: words of one width, or the same layers of the same frozen models.

    A fingerprint covers the models' files and settings that do not matter here, such as the number of tokens: under equal
    settings another fingerprint means other files at the same path.
    """
    there, here = source.conditioning.semantic, target.conditioning.semantic
    assert isinstance(there, TextSemantic) and isinstance(here, TextSemantic)
    if isinstance(there.encoder, WordsConfig) or isinstance(here.encoder, WordsConfig):
        return there.encoder.kind == here.encoder.kind and there.encoder.width == here.encoder.width
    fingerprints = source.facts.text_encoder, target.facts.text_encoder
    if all(fingerprints) and (there.encoder == here.encoder or fingerprints[0] == fingerprints[1]):
        return fingerprints[0] == fingerprints[1]
    return _models(there.encoder) == _models(here.encoder)


def _models(encoder: TextEncoderConfig) -> list[Any]:
    """What decides the features of a frozen encoder, without the number of tokens."""
    assert isinstance(encoder, HuggingFaceConfig)
    wanted = ("path", "subfolder", "layer", "attend_padding", "width")
    return [[[getattr(model, name) for name in wanted] for model in group] for group in encoder.models]
