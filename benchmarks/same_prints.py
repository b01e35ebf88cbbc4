"""What a folder of runs holds, as facts that two checkouts must agree on: name -> value, by kind of fact."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

Facts = dict[str, dict[str, str]]
"""Kind of fact -> name of the fact -> value."""

KINDS = ("files", "tensors", "pictures", "events", "config", "json", "words")
"""Names of files; tensors and their files; PNG and .npy; events.jsonl; YAML; JSON files and JSON printed; words of help."""

_LEFT_OUT = re.compile(
    r"time|measured|written|.*seconds|samples_per_second|data_wait_share|split"  # times and speeds
    r"|open_ldm|torch|numpy|version|manifest_sha256"  # versions, and a hash over them
    r"|sentence|message|reason|hint|note|notes|text|error|title|question|claim|setting"  # sentences
    r"|refused|warnings|problems|passed_over|recipes"  # lists of them, or by name
)
"""Keys of JSON whose values are not compared (the keys are, also of what lies below)."""

_SENTENCE_OR_NOT = ("data", "device")
"""Keys whose values are compared where they are one word."""

_PLACES_OF_A_KILL = ("resume", "checkpoint")
"""Events that tell where a process was killed: of a run that was, their position and values are not compared."""

_IGNORED_FILES = (".lock", ".claims")


def facts_of(folder: Path) -> Facts:
    """Everything in a folder, by paths relative to it."""
    facts: Facts = {kind: {} for kind in KINDS}
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in _IGNORED_FILES):
        name = path.relative_to(folder).as_posix()
        facts["files"][name] = "there"
        kind, found = _read(path, folder)
        facts[kind] |= {f"{name}{separator}{key}": value for separator, key, value in found}
    return facts


def _read(path: Path, folder: Path) -> tuple[str, Iterator[tuple[str, str, str]]]:
    """The kind of a file's facts, and the facts as (separator, name, value)."""
    match path.suffix:
        case ".safetensors":
            return "tensors", _tensors(path)
        case ".png" | ".npy":
            return "pictures", iter([("", "", _sha256(path.read_bytes()))])
        case ".jsonl":
            return "events", _events(path, str(folder))
        case ".yaml":
            return "config", _flat(yaml.safe_load(path.read_text(encoding="utf-8")), str(folder), strict=True)
        case ".json":
            return "json", _flat(_json(path), str(folder))
        case ".words":
            return "words", ((" ", line, "there") for line in path.read_text(encoding="utf-8").splitlines())
    return "files", iter(())


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return "this is no JSON"


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _tensors(path: Path) -> Iterator[tuple[str, str, str]]:
    """Each tensor's dtype, shape and bytes, then the whole file. The format is a length, a JSON header and the bytes."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header: dict[str, Any] = json.loads(content[8:start])
    for name, about in sorted(header.items()):
        if name == "__metadata__":
            yield ":", name, json.dumps(about, sort_keys=True)
            continue
        first, last = about["data_offsets"]
        yield ":", name, f"{about['dtype']} {about['shape']} {_sha256(content[start + first : start + last])}"
    yield "", " (whole file)", _sha256(content)


def _flat(
    content: Any, root: str, path: str = "", *, strict: bool = False, told: bool = True
) -> Iterator[tuple[str, str, str]]:
    """The leaves of plain data, and empty lists and mappings. What is not `told` has no value; `strict`: all of it is told."""
    name = path.rsplit("/", 1)[-1]
    told = told and (strict or not (_LEFT_OUT.fullmatch(name) or (name in _SENTENCE_OR_NOT and " " in str(content))))
    if isinstance(content, Mapping) and content:
        told = told or name in _SENTENCE_OR_NOT
        for key, value in content.items():
            yield from _flat(value, root, f"{path}/{key}", strict=strict, told=told)
    elif isinstance(content, list) and content and told:
        for number, value in enumerate(content):
            yield from _flat(value, root, f"{path}[{number}]", strict=strict)
    else:
        yield "#", path, json.dumps(content).replace(root, ".") if told else "left out"


def _events(path: Path, root: str) -> Iterator[tuple[str, str, str]]:
    """The history that the model really has: a resume forgets the events after its position, which were lost."""
    events = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
    killed = any(event["event"] == "resume" for event in events)
    kept: list[dict[str, Any]] = []
    for event in events:
        if event["event"] in ("resume", "start"):
            kept = [earlier for earlier in kept if earlier["samples_seen"] <= event["samples_seen"]]
        kept.append(event)
    counts: dict[str, int] = {}
    for event in kept:
        kind = str(event.pop("event"))
        counts[kind] = counts.get(kind, 0) + 1
        position = event.pop("samples_seen")
        if killed and kind in _PLACES_OF_A_KILL:
            yield "#", f"{kind} keys", " ".join(sorted(event))
            if "bitwise" in event:
                yield "#", f"{kind} bitwise", _same_version(str(event["bitwise"]))
            continue
        where = f"{kind} {counts[kind]}"
        yield "#", f"{where} samples_seen", str(position)
        yield from (("#", f"{where} {key}", value) for _, key, value in _flat(event, root))


def _same_version(bitwise: str) -> str:
    """What a resume says of its bits, whatever the version of open_ldm."""
    return re.sub(r"no \(open_ldm [^,)]*\)", "yes", re.sub(r"open_ldm [^,)]*, |, open_ldm [^,)]*", "", bitwise))


def words_of(page: str) -> list[str]:
    """Of a help page: the usage line, and the left column (arguments, options with their type, commands) of its tables."""
    usage, _, rest = page.partition("\n\n")
    found = [f"usage {' '.join(usage.split())}"]
    section = ""
    for line in rest.splitlines():
        if line and not line.startswith(" ") and line.rstrip().endswith(":"):
            section = line.strip().rstrip(":").lower()
        elif section and re.match(r"  \S", line):
            found.append(f"{section} {re.split(r'  +', line.strip())[0]}")
        elif not line.strip():
            section = ""
    return found


def commands_in(words: list[str]) -> list[str]:
    """Names of the commands a help page lists."""
    return [word.removeprefix("commands ") for word in words if word.startswith("commands ")]


def differences_of(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Every fact on which the two do not agree, in words."""
    names = sorted({*old, *new})
    return [f"{name}: {_short(old.get(name))} -> {_short(new.get(name))}" for name in names if old.get(name) != new.get(name)]


def _short(value: str | None) -> str:
    if value is None:
        return "absent"
    return value if len(value) <= 60 else f"{value[:28]}...{value[-28:]}"
