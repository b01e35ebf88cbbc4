"""One at a time and in order; a job can be cancelled where it waits and where it is worked on; the queue is bounded."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import Any

import pytest

from open_ldm.studio.device_queue import BusyError, CancelledError, DeviceQueue, Job
from open_ldm.studio.limits import LIMITS


class Gate:
    """Work that goes on until it is let go, ticking as it waits."""

    def __init__(self) -> None:
        self.began, self.open = threading.Event(), threading.Event()

    def __call__(self, job: Job[Any]) -> str:
        self.began.set()
        while not self.open.wait(0.005):
            job.tick(1)
        return "through"


def test_jobs_run_one_at_a_time_in_their_order() -> None:
    queue, seen, inside = DeviceQueue(), [], []

    def work(number: int) -> Any:
        def done(job: Job[int]) -> int:
            inside.append(number)
            assert len(inside) == 1
            seen.append(number)
            inside.remove(number)
            return number

        return done

    jobs = [queue.submit(work(number)) for number in range(50)]
    assert [job.future.result(10) for job in jobs] == list(range(50)) == seen


def test_a_job_that_is_worked_on_can_be_cancelled_and_the_next_one_runs() -> None:
    queue, gate = DeviceQueue(), Gate()
    first, waiting, last = queue.submit(gate), queue.submit(lambda job: "never"), queue.submit(lambda job: "ran")
    assert gate.began.wait(10)
    assert queue.progress(last).before == 2 and "2 before" in queue.progress(last).sentence
    queue.cancel(waiting)
    assert queue.progress(last).before == 1
    queue.cancel(first)
    for job in (first, waiting):
        with pytest.raises(CancelledError):
            job.future.result(10)
    assert last.future.result(10) == "ran" and queue.length == 0


def test_who_stops_listening_frees_the_device() -> None:
    queue, gate = DeviceQueue(), Gate()

    async def leave() -> Job[str]:
        job = queue.submit(gate)
        following = queue.follow(job)
        await anext(following)
        await following.aclose()
        return job

    with pytest.raises(CancelledError):
        asyncio.run(leave()).future.result(10)


def test_a_full_queue_refuses_and_an_error_ends_its_own_job_only() -> None:
    queue, gate = DeviceQueue(replace(LIMITS, waiting=1)), Gate()
    first = queue.submit(gate)
    assert gate.began.wait(10)

    def broken(job: Job[Any]) -> None:
        raise ValueError("broken")

    second = queue.submit(broken)
    with pytest.raises(BusyError, match="1 jobs wait"):
        queue.submit(gate)
    gate.open.set()
    assert first.future.result(10) == "through"
    with pytest.raises(ValueError, match="broken"):
        second.future.result(10)
    assert queue.submit(lambda job: 7).future.result(10) == 7


def test_a_job_that_takes_too_long_ends() -> None:
    queue = DeviceQueue(replace(LIMITS, seconds=0.0))
    with pytest.raises(CancelledError, match="more than 0 s"):
        queue.submit(Gate()).future.result(10)
