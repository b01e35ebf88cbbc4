"""What measurements share: the name of the processor, and figures that are printed and written part by part."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any


def processor() -> str:
    """Name of the processor; empty where Linux does not tell it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def memory(name: str) -> int:
    """Megabytes that Linux counts for this process: VmHWM is the most with mapped files, RssAnon what is not of files now."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return round(int(next(line for line in lines if line.startswith(name)).split()[1]) / 1e3)


def measure_parts(parts: Mapping[str, Callable[[], Any]], facts: Mapping[str, Any], file: Path | None) -> None:
    """Measure one part after the other; print each, and write all so far, so that a part that fails loses none.

    Args:
        parts: What to measure, by its name in the file.
        facts: What else the file says; day and processor are said anyway.
        file: JSON; None writes none.
    """
    figures: dict[str, Any] = {"date": date.today().isoformat(), "processor": processor(), **facts}
    for name, measure in parts.items():
        figures[name] = measure()
        print(json.dumps({name: figures[name]}), flush=True)
        if file is not None:
            file.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
