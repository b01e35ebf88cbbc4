"""Processes with unequal shares meet between pieces of work, so that no wait is longer than a piece."""

from __future__ import annotations

import pytest
from tests.core.threads_world import in_threads

from open_ldm.core import meetings
from open_ldm.core.distributed import World
from open_ldm.core.errors import StoppedError
from open_ldm.core.meetings import Meetings
from open_ldm.core.signals import StopRequest


def test_whoever_is_done_waits_for_a_piece_at_a_time_and_says_for_whom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meetings, "MEET_EVERY_SECONDS", 0.0)
    shares = (1, 4, 2)

    def work(world: World) -> tuple[list[int], list[str]]:
        said: list[str] = []
        here = Meetings(world, said.append, StopRequest())
        done = list(here.during(range(shares[world.rank])))
        here.wait()
        return done, said

    first, second, third = in_threads(3, work)
    assert [done for done, _ in (first, second, third)] == [[0], [0, 1, 2, 3], [0, 1]]
    assert first[1] == [
        "this process has done its share, and waits for rank 1 on ? (2 pieces done), rank 2 on ? (2 pieces done)",
        "this process has done its share, and waits for rank 1 on ? (3 pieces done)",
    ]
    assert third[1] == ["this process has done its share, and waits for rank 1 on ? (3 pieces done)"] and second[1] == []


def test_seconds_pass_between_two_meetings_of_quick_pieces() -> None:
    def work(world: World) -> int:
        here = Meetings(world, lambda text: None, StopRequest())
        done = sum(1 for _ in here.during(range(1000 * (1 + world.rank))))
        here.wait()
        return done

    assert in_threads(2, work) == [1000, 2000]
    assert work(World()) == 1000


@pytest.mark.parametrize("signalled", [0, 1])
def test_a_stop_of_one_process_ends_the_work_and_the_wait_of_all_at_the_same_meeting(
    monkeypatch: pytest.MonkeyPatch, signalled: int
) -> None:
    monkeypatch.setattr(meetings, "MEET_EVERY_SECONDS", 0.0)

    def work(world: World) -> tuple[list[int], StoppedError]:
        stop, done = StopRequest(), []
        here = Meetings(world, lambda text: setattr(stop, "name", "SIGTERM") if world.rank == signalled else None, stop)
        with pytest.raises(StoppedError) as raised:
            for piece in here.during(range((2, 1000)[world.rank])):
                done.append(piece)
                if world.rank == signalled == 1 and piece == 3:
                    stop.name = "SIGTERM"
            here.wait()
        return done, raised.value

    (waited, first), (worked, second) = in_threads(2, work)
    assert waited == [0, 1] and worked == [0, 1, 2, 3]  # what waits is told whom for after piece 2, and says stop with piece 3
    assert first.one_line() == second.one_line() == "stopped by SIGTERM; fix: run the same command again"
    assert first.exit_code == second.exit_code == 75 and first.of_all and second.of_all


def test_a_stop_after_the_last_piece_of_all_leaves_the_work_whole() -> None:
    def work(world: World) -> int:
        stop = StopRequest()
        here = Meetings(world, lambda text: None, stop)
        done = sum(1 for _ in here.during(range(3)))
        stop.name = "SIGTERM"
        here.wait()
        return done

    assert in_threads(2, work) == [3, 3]
