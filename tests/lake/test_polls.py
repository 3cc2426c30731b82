"""What a poll of the local lake looks at."""

from __future__ import annotations

import os

import pytest

from bikeflow.lake.queue import PartitionQueue
from bikeflow.settings.sections import StorageSettings
from bikeflow.store import tree
from tests.support.lines import raw_file, station
from tests.support.road import Road

LONG_AGO = 1_600_000_000


@pytest.mark.parametrize("storage", [StorageSettings()], ids=["local"])
async def test_a_poll_looks_at_no_file_that_it_knows_also_in_a_small_lake(
    road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at = list[str]()

    def look(key: str, path: str) -> tree._Seen | None:
        looked_at.append(key)
        return original(key, path)

    original = tree._look
    monkeypatch.setattr(tree, "_look", look)
    watcher = road.watcher(PartitionQueue(64))
    keys = [await put_long_ago(road, f"18-1{minute}-00") for minute in range(3)]
    assert [file.key for file in await watcher.poll()] == keys == looked_at
    keys.append(await put_long_ago(road, "18-13-00"))
    for found in (keys[-1:], []):
        assert [file.key for file in await watcher.poll()] == found
        assert looked_at == keys


async def put_long_ago(road: Road, at: str) -> str:
    """A file that nobody is writing to any more."""
    key = await road.put_raw(f"dt=2025-06-01/wrm_stations_2025-06-01_{at}.txt", raw_file(station(1)))
    path = road.store.local_path(key)
    assert path is not None
    os.utime(path, (LONG_AGO, LONG_AGO))
    return key
