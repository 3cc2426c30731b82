"""Amounts of memory, and segments that wait for each other until there is enough of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bikeflow.runtime.memory import available_bytes, memory_bytes
from bikeflow.segments.engines.base import MemoryBudget


@pytest.mark.parametrize(
    ("text", "expected"),
    [("512MB", 512_000_000), ("2GiB", 2 * 2**30), ("1.5 KB", 1500), ("1TiB", 2**40)],
)
def test_an_amount_in_words_is_a_number_of_bytes(text: str, expected: int) -> None:
    assert memory_bytes(text) == expected


def test_by_default_it_is_half_of_what_there_is() -> None:
    assert memory_bytes("auto") == available_bytes() // 2 > 2**20


V1 = "5:cpu,cpuacct:/system.slice/x\n4:memory:/docker/abc\n1:name=systemd:/docker/abc\n0::/system.slice/x\n"


@pytest.mark.parametrize(
    ("own", "limits", "expected"),
    [
        ("0::/system.slice/bikeflow.service\n", {"system.slice/bikeflow.service/memory.max": "100000"}, 100_000),
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": "90000", "a/b/memory.high": "95000"}, 90_000),
        ("0::/a\n", {"a/memory.max": "max", "a/memory.high": "70000"}, 70_000),
        ("0::/\n", {"memory.max": "80000"}, 80_000),  # a container, which sees itself as the root
        ("0::/docker/abc\n", {"memory.max": "80000"}, 80_000),  # one that sees its path on the host
        (V1, {"memory/docker/abc/memory.limit_in_bytes": "60000"}, 60_000),
        (V1, {"memory/memory.limit_in_bytes": "60000"}, 60_000),  # a container of version 1
        (V1, {f"memory/docker/{one}memory.limit_in_bytes": str(70000 - len(one)) for one in ("", "abc/")}, 69_996),
    ],
)  # fmt: skip
def test_what_a_container_or_unit_may_use_is_what_there_is(
    tmp_path: Path, own: str, limits: dict[str, str], expected: int
) -> None:
    (tmp_path / "own").write_text(own)
    for name, limit in limits.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(f"{limit}\n")
    assert available_bytes(tmp_path / "groups", tmp_path / "own") == expected


def test_without_a_limit_it_is_the_machine_s(tmp_path: Path) -> None:
    assert available_bytes(tmp_path, tmp_path / "none") > 2**20
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712\n")  # version 1's "none"
    (tmp_path / "own").write_text(V1)
    assert available_bytes(tmp_path, tmp_path / "own") == available_bytes(tmp_path, tmp_path / "none")


async def test_what_does_not_fit_in_waits_and_what_is_too_large_goes_alone() -> None:
    budget, at_once, most = MemoryBudget(100), 0, 0
    together: list[int] = []

    async def work(wanted: int) -> None:
        nonlocal at_once, most
        async with budget.room(wanted):
            at_once += wanted
            most = max(most, at_once)
            together.append(at_once)
            await asyncio.sleep(0.001)
            at_once -= wanted

    await asyncio.gather(*(work(wanted) for wanted in (40, 40, 40, 1000, 10, 60)))
    assert len(together) == 6
    assert most == 1000 and set(together) & {80, 90, 100}
    assert all(total <= 100 or total == 1000 for total in together)


async def test_work_that_fails_or_is_cancelled_gives_back_its_memory() -> None:
    budget = MemoryBudget(10)
    with pytest.raises(ZeroDivisionError):
        async with budget.room(10):
            raise ZeroDivisionError

    async def hold() -> None:
        async with budget.room(10):
            await asyncio.Event().wait()

    holding, waiting = asyncio.create_task(hold()), asyncio.create_task(hold())
    await asyncio.sleep(0.01)
    holding.cancel()
    waiting.cancel()
    await asyncio.gather(holding, waiting, return_exceptions=True)
    async with asyncio.timeout(60), budget.room(10):
        pass
