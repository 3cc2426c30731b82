"""The oracle itself: it has to notice what it is there to notice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.scenario import World
from tests.support.oracle import Verdict, local_lake

Lake = dict[str, bytes]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A lake in which all is well."""
    world = World(tmp_path_factory.mktemp("oracle") / "data")

    async def fill() -> None:
        async with world.opened():
            await world.run(restart=False)

    asyncio.run(fill())
    world.audit().assert_exactly_once()
    return world


def only(lake: Lake, part: str) -> str:
    """The first key that contains this."""
    return min(key for key in lake if part in key)


def remove(lake: Lake, part: str) -> None:
    del lake[only(lake, part)]


def copy(lake: Lake, part: str, name: str) -> None:
    key = only(lake, part)
    lake[f"{key.rsplit('/', 1)[0]}/{name}"] = lake[key]


TAMPERINGS: dict[str, Callable[[Lake], None]] = {
    "lost snapshot": lambda lake: remove(lake, "/raw/"),
    "doubled snapshot": lambda lake: copy(lake, "/raw/", "wrm_stations_2025-01-01_00-00-00.txt"),
    "altered snapshot": lambda lake: lake.update({only(lake, "/raw/"): b"snapshot 1"}),
    "lost row": lambda lake: remove(lake, "/processed/"),
    "doubled row": lambda lake: copy(lake, "/enhanced/", "all_enhanced_20250101_115959.parquet"),
    "lost dead letter": lambda lake: remove(lake, "/dlq/"),
    "surplus dead letter": lambda lake: lake.update({only(lake, "/dlq/"): lake[only(lake, "/dlq/")] * 2}),
}


@pytest.mark.parametrize("problem", TAMPERINGS)
def test_it_notices_what_was_tampered_with(world: World, problem: str) -> None:
    lake = local_lake(world.data_dir)
    TAMPERINGS[problem](lake)
    verdict = audited(world, lake)
    assert any(text.startswith(problem) for text in verdict.problems)
    with pytest.raises(AssertionError, match=problem):
        verdict.assert_exactly_once()


def test_it_notices_a_database_that_is_behind_the_lake(world: World, tmp_path: Path) -> None:
    behind = world.copy(tmp_path / "data")

    async def add() -> None:
        async with behind.opened(), behind.process() as pipeline:
            database = (behind.data_dir / "analytics.duckdb").read_bytes()
            await behind.happen(1, pipeline)
            await behind.settle(pipeline)
            (behind.data_dir / "analytics.duckdb").write_bytes(database)

    asyncio.run(add())
    problems = audited(behind, local_lake(behind.data_dir)).problems
    assert problems and all("database" in text or "latest" in text for text in problems)


def audited(world: World, lake: Lake) -> Verdict:
    log = "\n".join(f"event=fetched outcome=stored key={key}" for key in world.promised)
    return world.oracle.audit(lake, world.data_dir / "analytics.duckdb", log)
