"""Every local file damaged, in every way: the service starts, sets aside what is damaged, rebuilds it, and says so."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bikeflow.runtime.lock import exclusive
from tests.faults.scenario import World, at

Damage = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Place:
    """A kind of local file: where it lies, and the event that tells of its damage (empty: it is of no account)."""

    pattern: str
    event: str


PLACES = {
    "ledger": Place("ledger.sqlite", "ledger_quarantined"),
    "spool entry": Place("spool/*/*.txt", "spool_entry_damaged"),
    "cache": Place("cache/*", ""),
    "mirror": Place("mirror/enhanced/**/dt=2*/*.parquet", "mirror_cleaned"),
    "mirror's empty table": Place("mirror/enhanced/**/dt=0001-01-01/*.parquet", ""),
    "working database": Place("warehouse/working.duckdb", "database_damaged"),
    "template": Place("warehouse/template.duckdb", ""),
    "published database": Place("analytics.duckdb", "database_damaged"),
    "lock": Place("bikeflow.lock", ""),
}


def flipped(data: bytes) -> bytes:
    """A few bits are others, at the beginning and everywhere."""
    changed = bytearray(data)
    for position in (0, *random.Random(1).sample(range(len(data)), min(20, len(data)))):
        changed[position] ^= 0x10
    return bytes(changed)


DAMAGES: dict[str, Damage] = {
    "truncated": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "flipped": flipped,
    "garbage": lambda data: random.Random(2).randbytes(len(data)),
}


async def prepared(directory: Path) -> World:
    """A lake with everything published, and one more snapshot that waits in the spool."""
    world = World(directory)
    with exclusive(world.data_dir):
        pass  # leaves its file
    async with world.opened():
        await world.run(restart=False)
        async with world.process() as pipeline:
            await world.spool(pipeline, at(20, 30))
    return world


async def started(world: World) -> tuple[dict[str, object], list[str]]:
    """Start on what there is and work until all is done; returns the state, and what was said."""
    with capture_logs() as logs, exclusive(world.data_dir):
        async with world.opened(), world.process() as pipeline:
            await world.settle(pipeline)
    return world.state(), [str(entry["event"]) for entry in logs]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, dict[str, object]]]:
    """A world, and what becomes of it when nothing is damaged."""
    directory = tmp_path_factory.mktemp("healthy")
    world = asyncio.run(prepared(directory / "world"))
    state, said = asyncio.run(started(world.copy(directory / "undamaged")))
    assert not {place.event for place in PLACES.values()} & set(said)
    yield world, state


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("place", PLACES)
async def test_a_damaged_local_file_costs_nothing(
    healthy: tuple[World, dict[str, object]], tmp_path: Path, place: str, damage: str
) -> None:
    world, expected = healthy
    damaged = world.copy(tmp_path / "data")
    paths = list(damaged.data_dir.glob(PLACES[place].pattern))
    assert paths
    for path in paths:
        path.write_bytes(DAMAGES[damage](path.read_bytes()))
    state, said = await started(damaged)
    if place == "spool entry":  # the one copy there was; what is left of it is kept for people to look at
        assert list((damaged.data_dir / "spool/wrm/damaged").iterdir())
        damaged.promised = {key for key in damaged.promised if "20-30-00" not in key}
    else:
        assert state == expected
    damaged.audit().assert_exactly_once()
    if (place, damage) != ("ledger", "empty"):  # that is a new one to SQLite, and is filled as one
        assert not PLACES[place].event or PLACES[place].event in said


@pytest.mark.parametrize("seed", range(12))
async def test_a_ledger_of_which_a_single_byte_is_another_costs_nothing(
    healthy: tuple[World, dict[str, object]], tmp_path: Path, seed: int
) -> None:
    world, expected = healthy
    damaged = world.copy(tmp_path / "data")
    path, chance = damaged.data_dir / "ledger.sqlite", random.Random(seed)
    data = bytearray(path.read_bytes())
    position = chance.choice([number for number, byte in enumerate(data) if byte])
    data[position] ^= 1 << chance.randrange(8)
    path.write_bytes(bytes(data))
    state, _ = await started(damaged)
    assert state == expected, position
