"""An error of one process, in a form that the others can be told."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from open_ldm.core.errors import ConfigError, OpenLdmError, exit_code_of

REPORT_IT = "run again with --debug and report what it prints"


class LostProcessError(OpenLdmError):
    """Another process of the run ended without a word, or gives no answer within `parallel.timeout_seconds`.

    `lost` holds the ranks of those that can say nothing any more.
    """

    exit_code = 69
    lost: tuple[int, ...] = ()


@dataclass(frozen=True)
class Failure:
    """What ended the work of several processes.

    Attributes:
        kind: Name of the error's class; any other error than an OpenLdmError counts as one.
        problem: As in `OpenLdmError`, as are `needed` and `fix`.
        code: Exit code.
        lost: Ranks of processes that can say nothing any more.
    """

    kind: str
    problem: str
    needed: str = ""
    fix: str = ""
    code: int = 70
    lost: tuple[int, ...] = ()

    @classmethod
    def of(cls, error: BaseException, where: str = "") -> Failure:
        """Describe an error of this process; `where` is put in front of it."""
        code = exit_code_of(error)
        if isinstance(error, OpenLdmError):
            return cls(type(error).__name__, f"{where}{error.problem}", error.needed, error.fix, code)
        if isinstance(error, KeyboardInterrupt):
            return cls("OpenLdmError", f"{where}interrupted", code=code)
        text = " ".join(f"{type(error).__name__}: {error}".split())[:400]
        match code:
            case 71:
                return cls("OpenLdmError", f"{where}out of memory ({text})", fix="a smaller micro_batch_size", code=code)
            case 74 | 77:
                return cls("OpenLdmError", f"{where}the disk refused ({text})", fix="check space and permissions", code=code)
        return cls("OpenLdmError", f"{where}unexpected {text}", fix=REPORT_IT, code=code)

    def error(self) -> OpenLdmError:
        """Return the error that every process raises: of the same class, in the same words, with the same exit code."""
        kinds = {kind.__name__: kind for kind in _kinds(OpenLdmError)}
        error = kinds.get(self.kind, OpenLdmError)(self.problem, needed=self.needed, fix=self.fix)
        error.exit_code, error.of_all = self.code, True
        if isinstance(error, LostProcessError):
            error.lost = self.lost
        return error

    def to_json(self) -> str:
        """Write it as text for the store."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Failure:
        """Read what `to_json` wrote."""
        content = json.loads(text)
        return cls(**{**content, "lost": tuple(content["lost"])})


def _kinds(kind: type[OpenLdmError]) -> Iterator[type[OpenLdmError]]:
    yield kind
    for derived in kind.__subclasses__():
        yield from _kinds(derived)


def disagreement(name: str, values: Sequence[Any], hosts: Sequence[str]) -> ConfigError | None:
    """Compare what each process has of something.

    Args:
        name: What it is.
        values: Of each rank; mappings are compared entry by entry.
        hosts: Of each rank.

    Returns:
        An error that names the first rank that differs from rank 0, and up to three entries; None where all are equal.
    """
    rank = next((rank for rank, value in enumerate(values) if value != values[0]), None)
    if rank is None:
        return None
    ours, theirs = values[0], values[rank]
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        keys = sorted(key for key in {*ours, *theirs} if ours.get(key) != theirs.get(key))
        more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
        left, right = (", ".join(f"{key}={_short(each.get(key))}" for key in keys[:3]) for each in (ours, theirs))
    else:
        left, right, more = _short(ours), _short(theirs), ""
    return ConfigError(
        f"the processes differ in {name}: {right} on rank {rank} ({hosts[rank]}), {left} on rank 0 ({hosts[0]}){more}",
        needed="the same on all of them",
    )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 48 else f"{text[:45]}..."
