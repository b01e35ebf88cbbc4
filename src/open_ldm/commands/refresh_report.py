"""Rewrites a run's page after the run was measured or sampled from."""

from __future__ import annotations

import sys
from pathlib import Path

from open_ldm.core.errors import DiskError
from open_ldm.run_folder.folder import RunFolder
from open_ldm.run_folder.report.page import write_report
from open_ldm.run_folder.report.stages import write_stages_report


def refresh_report(run: Path) -> None:
    """Rewrite RUN/report.html if there is one. A page that cannot be written is a warning, not an error."""
    folder = RunFolder(run)
    if not folder.report.is_file():
        return
    try:
        if folder.stages.is_dir():
            write_stages_report(run)
        else:
            write_report(run)
    except DiskError as error:
        print(f"warning: {error.one_line()}", file=sys.stderr)
