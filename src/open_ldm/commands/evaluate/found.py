"""The results of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from open_ldm.commands.evaluate.neighbours import NeighbourReport
from open_ldm.commands.evaluate.text import HEADER, aligned, row_of
from open_ldm.core.shown import ShownAsText
from open_ldm.evaluation.measure import Measured
from open_ldm.evaluation.protocol import Result


@dataclass(frozen=True)
class Evaluation(ShownAsText):
    """The results of an evaluation. `refused`: protocol -> reason; `influence`: 'a|b' -> mean distance of two control values;
    `held_out`: the loss by noise level; `more`: 'content_change', 'coarse_change' and 'control_effect' -> control -> shares
    by attribute and by pair of values, and the statistic at each value; `file`: the evaluation.json it was written to, and
    `sheet` the picture of nearest neighbours, if they were written."""

    given: Path
    samples_seen: int | None
    results: tuple[Result, ...]
    refused: Mapping[str, str]
    influence: Mapping[str, float] = field(default_factory=dict)
    held_out: Mapping[str, Any] = field(default_factory=dict)
    neighbours: NeighbourReport | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    file: Path | None = None
    sheet: Path | None = None

    @property
    def measured(self) -> Measured:
        """Results and refusals as `measure` gives them."""
        return Measured(self.results, self.refused)

    def text(self) -> str:
        """The table of what was measured, then warnings, refusals and where things lie."""
        lines = aligned([HEADER, *map(row_of, self.results)])
        for warning in dict.fromkeys(text for result in self.results for text in result.estimate.warnings):
            lines.append(f"note: {warning}")
        for protocol, reason in self.refused.items():
            lines.append(f"refused: {reason if protocol.split('(')[0] in reason else f'{protocol}: {reason}'}")
        if self.influence:
            lines.append("mean distance of pictures of the same seed under two values of the control:")
            lines += [f"  {pair.replace('|', ' and ')}: {value:.4g}" for pair, value in self.influence.items()]
        lines += self._more_lines()
        if self.neighbours is not None:
            lines.append(self.neighbours.text())
        for what, path in (("nearest pairs", self.sheet), ("kept in", self.file)):
            if path is not None:
                lines.append(f"{what}: {path}")
        return "\n".join(lines)

    def _more_lines(self) -> list[str]:
        lines = []
        for control, found in self.more.get("content_change", {}).items():
            floor = found.get("floor", {}).get("attributes", {})
            shares = [
                f"{name} {share:.0%}" + (f" (floor {floor[name]:.0%})" if name in floor else "")
                for name, share in found["attributes"].items()
            ]
            lines.append(f"changed with {control}, by attribute ({found['reader']}): {', '.join(shares)}")
        for control, found in self.more.get("coarse_change", {}).items():
            pairs = [f"{pair.replace('|', ' and ')}: {100 * share:.2g} %" for pair, share in found["pairs"].items()]
            lines.append(f"coarse change by {control}, of what another seed changes: {', '.join(pairs)}")
        for control, found in self.more.get("control_effect", {}).items():
            values = [f"{value}: {found['samples'][value]:.3g} (real {mean:.3g})" for value, mean in found["real"].items()]
            lines.append(f"{found['statistic']} by {control}: {', '.join(values)}")
        return lines

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "given": str(self.given),
            "samples_seen": self.samples_seen,
            "results": [result.to_json() for result in self.results],
            "refused": dict(self.refused),
            **self.details(),
            "file": None if self.file is None else str(self.file),
            "sheet": None if self.sheet is None else str(self.sheet),
        }

    def details(self) -> dict[str, Any]:
        """What is not a number with a protocol."""
        found: dict[str, Any] = {"influence": dict(self.influence)} if self.influence else {}
        found |= self.more
        found |= {"held_out": dict(self.held_out)} if self.held_out else {}
        return found | ({} if self.neighbours is None else {"neighbours": self.neighbours.to_json()})
