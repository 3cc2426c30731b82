"""The queue of partition jobs: bounded, one waiting and one in flight a partition."""

from __future__ import annotations

import asyncio
import datetime as dt
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from bikeflow.core.model import Partition, PartitionJob
from bikeflow.lake.queue import PartitionQueue
from tests.support.wrm import wrm_day


def job(day: int) -> PartitionJob:
    return PartitionJob(wrm_day(dt.date(2025, 6, day)))


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
        queue, busy = PartitionQueue(size), set[Partition]()
        last_put, worked = dict[Partition, int](), dict[Partition, int]()
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


def day_of(system_id: str, number: int = 0) -> PartitionJob:
    return PartitionJob(Partition(system_id, dt.date(2024, 1, 1) + dt.timedelta(days=number)))


async def test_a_backlog_of_500_jobs_of_one_system_delays_no_other() -> None:
    queue = PartitionQueue(500)
    for number in range(500):
        await queue.put(day_of("long", number))
    busy = [await queue.get(), await queue.get()]
    await queue.put(day_of("short"))
    await queue.put(day_of("other"))
    assert [await queue.get(), await queue.get()] == [day_of("short"), day_of("other")]
    assert busy == [day_of("long", 0), day_of("long", 1)] and await queue.get() == day_of("long", 2)


async def test_systems_with_backlogs_take_turns_each_in_the_order_of_its_jobs() -> None:
    queue = PartitionQueue(8)
    for system_id in ("a", "b", "c"):
        for number in range(4):
            await queue.put(day_of(system_id, number))
    taken = [await queue.get() for _ in range(12)]
    partitions = [job.partition for job in taken if job is not None]
    assert [partition.system_id for partition in partitions] == ["a", "b", "c"] * 4
    assert partitions[::3] == [day_of("a", number).partition for number in range(4)]


async def test_each_system_has_its_own_room() -> None:
    queue = PartitionQueue(2)
    for number in range(2):
        await queue.put(day_of("full", number))
    blocked = asyncio.create_task(queue.put(day_of("full", 2)))
    await asyncio.sleep(0.01)
    assert not blocked.done() and queue.full("full") and not queue.full("other")
    for number in range(2):
        await asyncio.wait_for(queue.put(day_of("other", number)), 1)
    assert queue.full("other") and queue.waiting == 4
    assert [await queue.get(), await queue.get()] == [day_of("full", 0), day_of("other", 0)]
    await asyncio.wait_for(blocked, 1)
    assert queue.full("full") and not queue.full("other")


async def test_the_same_day_of_two_systems_is_two_partitions() -> None:
    queue = PartitionQueue(8)
    await queue.put(day_of("a"))
    await queue.put(day_of("b"))
    assert queue.waiting == 2
    assert {await queue.get(), await queue.get()} == {day_of("a"), day_of("b")} and queue.in_flight == 2


@given(st.lists(st.sampled_from("abbbbbbbcc"), min_size=1, max_size=60))
def test_no_system_waits_for_more_than_one_job_of_each_other(systems: list[str]) -> None:
    async def scenario() -> list[str]:
        queue = PartitionQueue(100)
        for number, system_id in enumerate(systems):
            await queue.put(day_of(system_id, number))
        taken = [await queue.get() for _ in systems]
        return [job.partition.system_id for job in taken if job is not None]

    order = asyncio.run(scenario())
    for system_id in set(systems):
        turns = [number for number, other in enumerate(order) if other == system_id]
        between = [order[start + 1 : end] for start, end in pairwise([-1, *turns])]
        assert all(len(others) == len(set(others)) for others in between)
