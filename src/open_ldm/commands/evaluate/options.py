"""Command-line words -> the settings of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from open_ldm.commands.evaluate.config import EvaluationConfig
from open_ldm.core.config import validate
from open_ldm.core.errors import ConfigError, cut
from open_ldm.core.files import relative_path_hint
from open_ldm.core.overrides import apply_overrides
from open_ldm.core.plain_data import PlainDataError, parse_json, parse_yaml_value
from open_ldm.evaluation.features.classifier import DESCRIPTION
from open_ldm.evaluation.features.classifier_fit import FitConfig


def config_from(
    metrics: Sequence[str | Mapping[str, Any]],
    extractors: Sequence[str | Path | Mapping[str, Any] | BaseModel],
    controls: Mapping[str, str],
    overrides: Sequence[str],
    *,
    n: int | None,
    seed: int,
) -> EvaluationConfig:
    """Return the settings of an evaluation; metrics and extractors are named, or given with their settings.

    Raises:
        ConfigError: Something cannot be read.
    """
    content = {
        "metrics": [{"kind": one} if isinstance(one, str) else dict(one) for one in metrics],
        "extractors": [_extractor(one) for one in extractors],
        "controls": dict(controls),
        "n": n,
        "seed": seed,
    }
    whole = validate(EvaluationConfig, content, source="ldm evaluate").model_dump(mode="json")
    return validate(EvaluationConfig, apply_overrides(whole, overrides, EvaluationConfig), source="ldm evaluate")


def _extractor(given: str | Path | Mapping[str, Any] | BaseModel) -> dict[str, Any]:
    if isinstance(given, BaseModel):
        return given.model_dump(mode="json")
    return dict(given) if isinstance(given, Mapping) else extractor_from(str(given))


def extractor_from(text: str) -> dict[str, Any]:
    """Return an extractor's settings: written out as {kind: ..., ...}, 'random', or inferred from what lies at a path.

    A folder of fit-features is a classifier, one with config.json a CLIP or another image model, a file Inception's weights.
    """
    if text.lstrip().startswith("{"):
        try:
            content = parse_yaml_value(text)
        except (yaml.YAMLError, PlainDataError) as error:
            raise ConfigError(
                f"--extractor {cut(text)!r} is not valid YAML", needed="{kind: NAME, ...}, with blanks behind colons"
            ) from error
        if isinstance(content, dict):
            return content
    if text == "random":
        return {"kind": "random"}
    path = Path(text).expanduser()
    if (path / DESCRIPTION).is_file():
        return {"kind": "classifier", "path": str(path)}
    if (path / "config.json").is_file():
        return {"kind": "clip" if _is_clip(path / "config.json") else "dinov2", "path": str(path)}
    if path.is_file():
        return {"kind": "inception", "path": str(path)}
    hint = relative_path_hint(path) if "/" in text or "\\" in text else ""
    problem = "is neither a file nor a folder of a known extractor" if path.exists() else f"is no file and no folder{hint}"
    raise ConfigError(
        f"--extractor {cut(text)!r} {problem}",
        needed="a folder of `ldm evaluate fit-features`, Inception's weights file, an image model's folder, or {kind: ...}",
    )


def fit_config_from(overrides: Sequence[str]) -> FitConfig:
    """Return the settings of `ldm evaluate fit-features`."""
    return validate(
        FitConfig, apply_overrides(FitConfig().model_dump(mode="json"), overrides, FitConfig), source="fit-features"
    )


def controls_from(texts: Sequence[str]) -> dict[str, str]:
    """Read words such as `size=256x256` as option -> value. Raises ConfigError for one without `=`."""
    parts = {text: text.partition("=") for text in texts}
    for text, (_, separator, _) in parts.items():
        if not separator:
            raise ConfigError(f"--control {text!r} cannot be read", needed="NAME=VALUE, such as size=256x256")
    return {name: value for name, _, value in parts.values()}


def _is_clip(path: Path) -> bool:
    try:
        content: Any = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, Mapping) and "clip" in str(content.get("model_type", ""))
