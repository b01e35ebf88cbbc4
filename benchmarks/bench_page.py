"""The figures of `make bench` as a part of a Markdown page, between two marks.

python benchmarks/bench_page.py bench.json docs/performance.md
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"


def row_of(name: str, cell: Mapping[str, Any]) -> str:
    """One line of the table; a cell that failed says why."""
    busy = f"{cell['busy_cores']:.1f}" + (" (marked)" if cell.get("marked") else "")
    if "error" in cell:
        return f"| {name} | {cell['error']} | | | | {busy} | {cell['date'][:10]} |"
    ours, peer, ratio, reach = "", "", "", ""
    if isinstance(cell.get("ratio"), float):
        ours, peer = (_spread(cell[side], cell["batch"]) for side in ("ours", "peer"))
        ratio = f"{cell['ratio']:.2f}"
        reach = f"{cell['ours']['gflops_per_second']:.0f} GFLOP/s, {cell['ours']['share_of_reachable']:.0%}"
    elif "seconds" in cell:
        first, second = list(cell["seconds"].values())[:2]
        ours, peer = (f"{1e3 * low:.0f}, {1e3 * middle:.0f}, {1e3 * high:.0f} ms" for low, middle, high in (first, second))
        low, middle, high = cell["ratio"]
        ratio = f"{middle:.2f} ({low:.2f} to {high:.2f})"
    elif "whole_seconds" in cell:
        low, middle, high = cell["samples_per_second"]
        ours, peer = f"{low:.0f}, {middle:.0f}, {high:.0f} samples/s", f"{cell['updates_alone_per_second']:.0f} samples/s"
        ratio = f"{middle / cell['updates_alone_per_second']:.2f}"
    elif "sides" in cell:
        ours = "; ".join(f"{side}: shared/quiet {each['shared_of_quiet'][0]:.2f}" for side, each in cell["sides"].items())
    return f"| {name} | {ours} | {peer} | {ratio} | {reach} | {busy} | {cell['date'][:10]} |"


def _spread(side: Mapping[str, float], batch: int) -> str:
    named = ("lower_quartile_seconds", "median_seconds", "upper_quartile_seconds")
    return ", ".join(f"{1e3 * side[name]:.0f}" for name in named) + f" ms for {batch}"


def page_of(content: Mapping[str, Any]) -> str:
    """The table with where it was measured."""
    machine = content["machine"]
    where = f"{machine['processor']}, {machine['threads']} threads of {machine['cores']} cores, torch {machine['torch']}"
    names = ("cell", "open-ldm", "beside", "ratio", "products, share of the reachable", "busy cores", "date")
    head = f"| {' | '.join(names)} |\n{'|---' * len(names)}|"
    rows = [row_of(name, cell) for name, cell in content["cells"].items()]
    said = "Lower quartile, median, upper quartile. `ratio` is above 1 where open-ldm is faster; of the trainer it is the share"
    said += " of the rate of its updates alone."
    return "\n".join([f"`make bench` on {where}. {said}", "", head, *rows])


def update(page: Path, content: Mapping[str, Any]) -> None:
    """Replace what stands between the marks. Raises SystemExit where the page lacks them."""
    text = page.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise SystemExit(f"{page} lacks {BEGIN} and {END}")
    head, rest = text.split(BEGIN, 1)
    page.write_text(f"{head}{BEGIN}\n{page_of(content)}\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")


if __name__ == "__main__":
    update(Path(sys.argv[2]), json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
