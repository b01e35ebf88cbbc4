"""What `ldm demo` prints at its end."""

from __future__ import annotations

from open_ldm.commands.demo.page import next_commands
from open_ldm.commands.demo.run import DemoResult
from open_ldm.commands.demo.verdict import in_words
from open_ldm.commands.demo.versions import BASELINE, IMPROVED

_RED, _PLAIN = "\x1b[31m", "\x1b[0m"


def demo_text(result: DemoResult, *, colour: bool = False) -> str:
    """Write the numbers of both models, the claims, and where to look; a claim that is surely wrong is red with `colour`."""
    models = [(BASELINE, result.findings[BASELINE]), (IMPROVED, result.findings[IMPROVED])]
    lines = ["", _row("", ["entangled", "improved"])]
    lines.append(_row("colour changes with the size (unwanted)", [in_words(one.content_change) for _, one in models]))
    effects = [f"{one.control_effect.value:.2f}" for _, one in models]
    lines.append(_row("detail changes with the size (wanted, 1 as real)", effects))
    if places := [in_words(one.place) for _, one in models if one.place]:
        lines.append(_row("left and right as the caption says", places))
        mirrored = [in_words(one.mirrored) if one.mirrored else "no such control" for _, one in models]
        lines.append(_row("flip=1 mirrors", mirrored))
    for group in models[0][1].agreement:
        shares = [f"{100 * one.agreement[group].all:.0f} %" for _, one in models]
        lines.append(_row(f"all attributes right, {group}", shares))
    lines.append("")
    for claim in result.claims:
        line = f"  {'WRONG' if claim.wrong else 'ok':<6} {claim.expected}: {claim.found}"
        lines.append(f"{_RED}{line}{_PLAIN}" if claim.wrong and colour else line)
    lines += [
        "",
        f"page:   {result.page.resolve()}  ({result.seconds:.0f} s)",
        f"next:   {next_commands(result.out / IMPROVED, result.findings[IMPROVED])[0]}",
    ]
    return "\n".join(lines)


def _row(title: str, cells: list[str]) -> str:
    return f"  {title:<56}" + "".join(f"{cell:>18}" for cell in cells)
