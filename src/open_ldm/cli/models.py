"""`ldm models`."""

from __future__ import annotations

from open_ldm.cli.options import Json, print_json, show


def models(as_json: Json = False) -> int:
    """Parameters and multiply-adds of every denoiser and size, counted without allocating a weight."""
    from open_ldm.commands.model_table import model_table

    rows = model_table()
    if as_json:
        print_json({"models": [row.to_json() for row in rows]})
        return 0
    show(f"{'denoiser':<10}{'size':<6}{'patch':>5}{'parameters':>16}{'GMACs':>10}   counted for")
    for row in rows:
        show(f"{row.denoiser:<10}{row.size:<6}{row.patch:>5}{row.parameters:>16,}{row.gmacs:>10.2f}   {row.setting}")
    return 0
