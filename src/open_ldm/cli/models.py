"""`ldm models`."""

from __future__ import annotations

from open_ldm.cli.options import Json, print_json, show


def models(as_json: Json = False) -> int:
    """Parameters, multiply-adds and training memory of every denoiser and size, counted without allocating a weight."""
    from open_ldm.commands.model_table import model_table

    rows = model_table()
    if as_json:
        print_json({"models": [row.to_json() for row in rows]})
        return 0
    show(f"{'denoiser':<10}{'size':<6}{'patch':>5}{'parameters':>16}{'GMACs':>10}{'memory':>11}{'a picture':>12}   counted for")
    for row in rows:
        whole, more = row.memory.total(0) / 1e9, row.memory.picture / 1e6
        counted = f"{row.parameters:>16,}{row.gmacs:>10.2f}{whole:>8.2f} GB{more:>9.0f} MB"
        show(f"{row.denoiser:<10}{row.size:<6}{row.patch:>5}{counted}   {row.setting}")
    show(
        "memory: of a training in bf16, and for each picture of a micro-batch; training.recompute=blocks needs less (ldm plan)"
    )
    return 0
