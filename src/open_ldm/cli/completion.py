"""What the tab key completes: runs, recipes and settings. Nothing heavy is imported, since a person waits for it."""

from __future__ import annotations

from pathlib import Path

_RUNS = Path("runs")


def complete_run(incomplete: str) -> list[str]:
    """Run folders that begin so, those below runs/ first; folders on the way to others end in a slash."""
    typed = Path(incomplete)
    inside = typed if incomplete.endswith("/") else typed.parent
    folders = [*(_folders(_RUNS) if not incomplete else []), *_folders(inside)]
    found = {name if _is_run(Path(name)) else f"{name}/" for name in folders if name.startswith(incomplete)}
    return sorted(found, key=lambda name: (name.endswith("/"), name))


def complete_recipe(incomplete: str) -> list[str]:
    """Packaged recipes, YAML files, and run folders that begin so; behind the whole name of a recipe its editions too."""
    from open_ldm.runs.catalogue import all_packaged, editions

    typed = Path(incomplete)
    inside = typed if incomplete.endswith("/") else typed.parent
    files = [str(file) for file in inside.glob("*.y*ml")] if inside.is_dir() else []
    names = all_packaged()
    begun = incomplete.partition("@")[0]
    told = editions(begun) if begun in names else []  # looked at only once the name stands there
    numbered = [f"{begun}@{edition}" for edition in told if len(told) > 1]
    named = [name for name in (*names, *numbered, *files) if name.startswith(incomplete)]
    return [*sorted(named), *complete_run(incomplete)]


def complete_setting(incomplete: str) -> list[str]:
    """Settings that begin so, each with the = behind it: those that packaged recipes give, and those that people ask for."""
    if "=" in incomplete:
        return []
    from open_ldm.core.habits import HABITS

    names = {*_of_recipes(), *HABITS.values(), "track"}
    return sorted(f"{name}=" for name in names if name.startswith(incomplete))


def _of_recipes() -> set[str]:
    from open_ldm.core.config import flattened, parse_yaml
    from open_ldm.runs.catalogue import packaged, recipe_text

    found: set[str] = set()
    for name in packaged():
        content = parse_yaml(recipe_text(name), name)
        found |= {key for key in flattened(content) if key not in ("extends", "name", "edition")}
    return {key for key in found if not any(part.isdigit() for part in key.split("."))}


def _folders(inside: Path) -> list[str]:
    if not inside.is_dir():
        return []
    return [str(entry) for entry in inside.iterdir() if entry.is_dir() and not entry.name.startswith(".")]


def _is_run(path: Path) -> bool:
    return (path / "config.yaml").is_file() or (path / "checkpoints").is_dir()
