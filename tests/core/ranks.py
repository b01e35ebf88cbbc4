"""One process of a small world: python -m tests.core.ranks agree|wait OUT TIMEOUT_SECONDS.

`agree` makes the processes differ in one thing after another and writes down what each one raised; `wait` works until something
happens to another process.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from open_ldm.core.distributed import World, join_world
from open_ldm.core.errors import CheckpointError, DataError, DiskError, OpenLdmError
from open_ldm.core.launch import Launch
from open_ldm.core.peers import Peers


def agree(world: World, out: Path, port: int) -> dict[str, tuple[str, int]]:
    mine = f"rank {world.rank}"

    def fail() -> None:
        raise DiskError("cannot write x", fix="free some space")

    def other_versions() -> None:
        Peers(Launch(world.rank, world.size, "127.0.0.1", port), 20, {"open_ldm": f"0.{world.rank}"}).arrive()

    def lacks_a_folder() -> None:
        if world.rank == 1:
            raise DataError("there is no folder /data", fix="check the path")
        while True:
            world.any(False)

    assert world.gathered(mine) == ["rank 0", "rank 1"]
    assert world.any(world.rank == 1) and not world.any(False)
    assert world.everyone(lambda: mine) == "rank 0"
    numbers = [torch.full((2, 2), 1.0 + world.rank), torch.full((3,), 10.0)]
    world.sum_(numbers)
    assert numbers[0].eq(3).all() and numbers[1].eq(20).all()
    world.agreed("recipe", {"batch_size": 4})
    (out / "one").mkdir(parents=True, exist_ok=True)
    (out / mine).mkdir()
    world.require_shared(out / "one")
    assert not (world.leads and list((out / "one").iterdir()))
    recipe = {f"training.{name}": 3 for name in ("a", "b", "c", "d", "e")}
    cases: dict[str, Callable[[], object]] = {
        "recipe": lambda: world.agreed("recipe", {**recipe, "training.batch_size": 4 + world.rank}),
        "many": lambda: world.agreed("recipe", dict.fromkeys(recipe, world.rank)),
        "checkpoint": lambda: world.agreed("checkpoint", f"samples-{world.rank}", CheckpointError, fix="share one disk"),
        "data": lambda: world.agreed("data", f"hash {world.rank}", DataError),
        "folder": lambda: world.require_shared(out / mine),
        "leader": lambda: world.everyone(fail),
        "point": lambda: world.gathered(0, f"exchange {world.rank}"),
        "version": other_versions,
        "missing": lacks_a_folder,
    }
    return {name: raised(world, case) for name, case in cases.items()}


def raised(world: World, case: Callable[[], object]) -> tuple[str, int]:
    """The line and the exit code that a case ends with."""
    try:
        with world.sharing_errors():
            case()
    except OpenLdmError as error:
        return error.one_line(), error.exit_code
    return "nothing", 0


def wait(world: World, out: Path) -> dict[str, tuple[str, int]]:
    written: list[str] = []

    def work() -> None:
        with world.sharing_errors(lambda error: written.append(str(error))):
            (out / f"at work {world.rank}").touch()
            while True:
                world.any(False)

    found = {"wait": raised(world, work), "pid": ("", os.getpid())}
    return found | {"words": (written[0], 0)} if written else found


def main(what: str, out: Path, timeout_seconds: float) -> None:
    torch.set_num_threads(1)
    world = join_world(torch.device("cpu"), timeout_seconds)
    found = agree(world, out, int(os.environ["SECOND_PORT"])) if what == "agree" else wait(world, out)
    (out / f"{world.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
