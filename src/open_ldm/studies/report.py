"""study.json, study.md and study.html: rewritten after every arm, so that a study that was stopped shows what there is."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from open_ldm import __version__
from open_ldm.core.files import write_json, write_text
from open_ldm.pages.charts import Format
from open_ldm.studies.begun import STUDY
from open_ldm.studies.charts import save_charts
from open_ldm.studies.found import SettingFound, StudyFound, words_of
from open_ldm.studies.page import page_of
from open_ldm.studies.table import table_at, table_of


def write_study(found: StudyFound, out: Path, figure_format: Format | None = None) -> Path:
    """Write study.json, study.md and study.html into `out`; returns the page. Raises DiskError.

    `figure_format`: its charts also become files of their own beside the page.
    """
    write_json(out / STUDY, content_of(found))
    write_text(out / "study.md", markdown_of(found))
    path = out / "study.html"
    write_text(path, page_of(found, path))
    if figure_format is not None:
        save_charts(found, out, figure_format)
    return path


def content_of(found: StudyFound) -> dict[str, Any]:
    """Plain data."""
    study = found.study
    return {
        "study": study.name,
        "title": study.title,
        "shows": study.shows,
        "question": study.question,
        "claim": study.claim,
        "scale": found.scale,
        "finished": found.finished,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "command": shlex.join(found.command),
        "findings": [
            {
                "text": each.text(),
                "verdict": each.verdict,
                "setting": each.setting,
                "relative": each.relative,
                "floor": each.floor,
            }
            for each in found.findings
        ],
        "settings": [_setting_content(each) for each in found.settings],
    }


def _setting_content(found: SettingFound) -> dict[str, Any]:
    summaries = {
        arm: {metric: vars(one) for metric in found.names if (one := found.summary(arm, metric))} for arm in found.arms
    }
    return {
        "name": found.setting.name,
        "recipe": found.setting.recipe,
        "changes": list(found.setting.changes),
        "classifier_accuracy": found.accuracy,
        "done": found.done,
        "planned": found.planned,
        "arms": summaries,
        "measured": [each.to_json() for each in found.measured],
        "commands": list(found.commands),
    }


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)] + [""]


def markdown_of(found: StudyFound) -> str:
    """Tables and findings, for a page of documentation."""
    study = found.study
    lines = [f"# {study.title}", "", f"{study.question} Twin of {study.shows}, scale `{found.scale}`.", ""]
    lines += [f"Claim: {study.claim}", ""]
    lines += [f"* {each.setting}: {each.text()}" for each in found.findings] + [""]
    for setting in found.settings:
        header, rows = table_of(setting)
        lines += [f"## {setting.setting.name} ({setting.done} of {setting.planned} runs)", ""]
        lines += _table(header, rows)
        for metric, conditions in setting.conditions.items():
            lines += [f"Of {words_of(metric).title}:", "", *_table(*table_at(setting, metric, conditions))]
    return "\n".join([*lines, f"`{shlex.join(found.command)}`, {datetime.now(UTC):%Y-%m-%d}, version {__version__}", ""])
