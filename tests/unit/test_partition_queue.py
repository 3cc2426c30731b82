"""The queue of partition jobs: bounded, one waiting and one in flight a partition."""

from __future__ import annotations

import asyncio
import datetime as dt

from hypothesis import given
from hypothesis import strategies as st

from bikeflow.model import PartitionJob
from bikeflow.partition_queue import PartitionQueue


def job(day: int) -> PartitionJob:
    return PartitionJob(dt.date(2025, 6, day))


async def test_a_partition_waits_once_and_is_in_flight_once() -> None:
    queue = PartitionQueue(8)
    await queue.put(job(1))
    await queue.put(job(1))
    assert (queue.waiting, await queue.get(), queue.in_flight) == (1, job(1), 1)
    await queue.put(job(1))
    second = asyncio.create_task(queue.get())
    await asyncio.sleep(0.01)
    assert not second.done()
    await queue.done(job(1))
    assert await second == job(1)


async def test_another_partition_overtakes_one_that_is_in_flight() -> None:
    queue = PartitionQueue(8)
    for day in (1, 1, 2):
        await queue.put(job(day))
        if day == 1 and queue.in_flight == 0:
            await queue.get()
    assert await queue.get() == job(2)


async def test_a_full_queue_makes_the_producer_wait_but_lets_twins_join() -> None:
    queue = PartitionQueue(1)
    await queue.put(job(1))
    await queue.put(job(1))
    blocked = asyncio.create_task(queue.put(job(2)))
    await asyncio.sleep(0.01)
    assert not blocked.done()
    await queue.get()
    await blocked
    assert queue.waiting == 1


async def test_a_closed_queue_hands_out_what_waits_and_then_none() -> None:
    queue = PartitionQueue(1)
    await queue.put(job(1))
    blocked = asyncio.create_task(queue.put(job(2)))
    await asyncio.sleep(0.01)
    await queue.close()
    await blocked
    assert [await queue.get(), await queue.get()] == [job(1), None]


async def test_dropped_jobs_are_not_handed_out() -> None:
    queue = PartitionQueue(4)
    await queue.put(job(1))
    await queue.put(job(2))
    taken = await queue.get()
    assert taken == job(1)
    await queue.close()
    await queue.drop_waiting()
    assert await queue.get() is None
    await queue.done(taken)
    await asyncio.wait_for(queue.join(), 60)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=30), st.integers(1, 4), st.integers(1, 4))
def test_every_partition_put_is_worked_on_after_its_last_put_and_never_by_two(
    days: list[int], workers: int, size: int
) -> None:
    async def scenario() -> None:
        queue, busy, last_put, worked = PartitionQueue(size), set[dt.date](), dict[dt.date, int](), dict[dt.date, int]()
        clock = 0

        async def work() -> None:
            nonlocal clock
            while (taken := await queue.get()) is not None:
                assert taken.partition not in busy
                busy.add(taken.partition)
                clock += 1
                worked[taken.partition] = clock
                await asyncio.sleep(0)
                busy.remove(taken.partition)
                await queue.done(taken)

        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(work())
            for day in days:
                clock += 1
                last_put[job(day).partition] = clock
                await queue.put(job(day))
            await queue.join()
            await queue.close()
        assert all(worked[day] >= at for day, at in last_put.items())

    asyncio.run(scenario())
